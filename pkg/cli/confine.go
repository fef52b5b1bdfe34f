package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/record"
	"github.com/podwire/podwire/pkg/serve"
)

// A server reads what a guest sends it, so that it must be able to do as little as it
// can. All that takes a privilege is done once, before it says that it is ready: the sockets and
// the tunnel of DNS are open by then, and its threads are in the pod's namespace. Afterwards
// it reads the state when it is told to, binds its sockets to links that were made anew,
// asks nameservers, and removes its own socket and ready file.

// errUnrelayed says why the guest's DNS is not relayed any more.
var errUnrelayed = errors.New("the tunnel device is gone, and a server that has given up its privileges cannot make another: start \"podwire serve\" anew")

// confine gives up what the process does not need to serve these interfaces, and
// returns what is in force; nil where nothing is.
func (a *Agent) confine(records []record.Record) *serve.Confinement {
	if !a.alone || a.config.Confine == "off" {
		return nil
	}
	got, err := kernel.Confine(a.bounds(records))
	for _, what := range got.Lacking {
		a.log.Warn("the server serves without a part of its confinement", "lacking", what)
	}
	if err != nil {
		a.log.Warn("the server is not confined", "err", err)
		return nil
	}
	return &serve.Confinement{
		Capabilities: got.Capabilities, NoNewPrivileges: got.NoNewPrivileges,
		Seccomp: got.Seccomp, Landlock: got.Landlock, Lacking: got.Lacking,
	}
}

// bounds are what serving these interfaces takes.
func (a *Agent) bounds(records []record.Record) kernel.Bounds {
	b := kernel.Bounds{
		// Options of links, and the boot id.
		Read:   []string{string(a.dir), "/proc/sys"},
		Remove: []string{string(a.dir)},
	}
	if ready := a.config.ReadyFile; ready != "" {
		b.Create = append(b.Create, filepath.Dir(ready))
		b.Remove = append(b.Remove, filepath.Dir(ready))
	}
	// What only the pod knows is read again with the state.
	for _, r := range records {
		c := a.config.Over(r.Config)
		for _, path := range []string{c.ResolvConf, c.NetworkStatus} {
			if path != "" {
				b.Read = append(b.Read, path)
			}
		}
		b.Ask = b.Ask || len(r.Lease.Server.DNS) > 0
	}
	return b
}

// forbidden is the error of a passage that cannot be opened again by a confined server,
// else nil.
func forbidden(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (%w)", errUnrelayed, err)
	}
	return nil
}

// confinementText is what a server has given up, in words.
func confinementText(c *serve.Confinement) string {
	if c == nil {
		return "no: the server is not confined"
	}
	has := func(n int, format string) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprintf(format, n)
	}
	privileges := "may gain privileges"
	if c.NoNewPrivileges {
		privileges = "no new privileges"
	}
	return strings.Join([]string{
		cmp.Or(strings.TrimPrefix(c.Capabilities, "none"), "no") + " capabilities",
		privileges,
		cmp.Or(has(c.Seccomp, "seccomp (%d system calls)"), "no seccomp"),
		cmp.Or(has(c.Landlock, "Landlock (ABI %d)"), "no Landlock"),
	}, ", ")
}
