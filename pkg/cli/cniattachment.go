package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podwire/podwire/pkg/cni"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/record"
)

// attachment is one interface of one container, and what is known of it on the
// node.
type attachment struct {
	id    string
	nic   string
	netns string // a path; empty where the runtime does not know one any more
	dir   record.Dir
	log   *slog.Logger
}

// attachmentOf fails where what the runtime says cannot be a path's part.
func attachmentOf(n cni.Network, id, nic, netns string, log *slog.Logger) (attachment, error) {
	if !cni.ValidID(id) {
		return attachment{}, cni.Fail(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("CNI_CONTAINERID: %q is no ID of a container", id), "")
	}
	c := config.Default()
	if err := c.Apply(config.Setting{Field: "interface", Source: "CNI_IFNAME", Values: []string{nic}}); err != nil {
		return attachment{}, cni.Fail(types.ErrInvalidEnvironmentVariables, err.Error(), "")
	}
	dir := record.Dir(filepath.Join(n.StateDir, id))
	return attachment{id: id, nic: nic, netns: netns, dir: dir, log: log.With("container", id, "link", nic)}, nil
}

// agent returns the one that works in the attachment's namespace.
func (t attachment) agent(c config.Config) (*Agent, error) {
	c.Interfaces, c.StateDir, c.NetNS, c.Timeout = []string{t.nic}, string(t.dir), t.netns, lockTimeout
	a, err := NewAgent(c, t.log)
	if err != nil {
		return nil, err
	}
	a.outside = true
	return a, nil
}

// lockTimeout is how long a call waits for another one of the same container, which
// a runtime does not make. It is told to try again before it loses patience.
const lockTimeout = 10 * time.Second

// lock makes the container's directory, and keeps other calls from it until unlock.
func (t attachment) lock(ctx context.Context) (unlock func(), err error) {
	for {
		if err := t.dir.Create(); err != nil {
			return nil, err
		}
		if unlock, err = t.lockThere(ctx); !notExist(err) {
			return unlock, err
		}
	}
}

// lockThere is lock where there is a directory; the error is fs.ErrNotExist where
// there is none. Who held the lock before may have removed it, and a third have made
// another: a lock on what has no name any more keeps nobody out.
func (t attachment) lockThere(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	for {
		before, err := os.Stat(string(t.dir))
		if err != nil {
			return nil, err
		}
		unlock, err := kernel.Lock(ctx, string(t.dir))
		if err != nil {
			return nil, fmt.Errorf("waiting for another podwire in %q: %w", t.dir, err)
		}
		after, err := os.Stat(string(t.dir))
		if err == nil && os.SameFile(before, after) {
			return unlock, nil
		}
		unlock()
	}
}

// noteSuffix ends the name of the file that says what an attachment belongs to.
const noteSuffix = ".attachment"

// belongs is what GC must know of an attachment.
type belongs struct {
	Network string `json:"network"`
	NetNS   string `json:"netns"`
}

// note writes down what the attachment belongs to.
func (t attachment) note(network string) error {
	text, err := json.Marshal(belongs{Network: network, NetNS: t.netns})
	if err == nil {
		err = os.WriteFile(t.notePath(), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	return nil
}

func (t attachment) notePath() string { return filepath.Join(string(t.dir), t.nic+noteSuffix) }

// readNote reads what note wrote, at a path in a state directory.
func readNote(stateDir fs.FS, path string) (belongs, error) {
	var to belongs
	text, err := fs.ReadFile(stateDir, path)
	if err == nil {
		err = json.Unmarshal(text, &to)
	}
	return to, err
}

// forget removes what there is of the attachment beside its state, if that is
// gone, and the container's directory if nothing else is in it. The note stays with
// a state that was set aside, for GC to tell when that is of no more use. What cannot
// be removed is in nobody's way. The lock must be held: an ADD that runs has a note,
// and no state yet.
func (t attachment) forget() {
	if _, err := os.Lstat(t.dir.Path(t.nic)); !notExist(err) {
		return
	}
	_ = t.dir.Remove(t.nic) // a writer that was killed left a temporary file
	if asides, err := t.dir.Asides(t.nic); err == nil && len(asides) == 0 {
		_ = os.Remove(t.notePath())
	}
	_ = os.Remove(string(t.dir))
}
