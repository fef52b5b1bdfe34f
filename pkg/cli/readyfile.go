package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/record"
)

// sayReady confines the process, and then says by the status and by the ready file that
// the guests are answered: in this order, since whoever waits for the file then asks for the
// status. Where the file's directory takes a privilege, the file is made while the process has it:
// the guests are answered by then, too.
func (a *Agent) sayReady(services []*service, records []record.Record) error {
	say := func() error {
		for _, s := range services {
			s.ready.Store(true)
		}
		return a.markReady()
	}
	early := a.needsPrivileges(records)
	if early {
		if err := say(); err != nil {
			return err
		}
	}
	confined := a.confine(records)
	for _, s := range services {
		s.confined.Store(confined)
	}
	if early {
		return nil
	}
	return say()
}

// needsPrivileges warns of what the process is not going to be able to do any more once it
// is confined, since it takes a privilege, and reports whether to make the ready file does.
func (a *Agent) needsPrivileges(records []record.Record) (ready bool) {
	if !a.alone || a.config.Confine == "off" {
		return false
	}
	for _, r := range records {
		c := a.config.Over(r.Config)
		for path, then := range map[string]string{
			a.dir.Path(r.Interface.PodInterface): "what setup changes of it is not told to the guest",
			c.ResolvConf:                         "the guest is told what it says now",
			c.NetworkStatus:                      "the guest is told what it says now",
		} {
			if path != "" && errors.Is(kernel.MayReadConfined(path), fs.ErrPermission) {
				a.log.Warn("a file is readable to a confined server by its privileges alone, which it gives up: "+then, "path", path)
			}
		}
	}
	if a.config.ReadyFile == "" {
		return false
	}
	err := kernel.MayMakeConfined(filepath.Dir(a.config.ReadyFile))
	if err != nil {
		a.log.Warn("the ready file is not going to be removed at the end: a confined server may not", "path", a.config.ReadyFile, "err", err)
	}
	return err != nil
}

func (a *Agent) markReady() error {
	if a.config.ReadyFile == "" {
		return nil
	}
	if err := kernel.CreateEmpty(a.config.ReadyFile); err != nil {
		return fmt.Errorf("writing the ready file: %w", err)
	}
	return nil
}

// endReady removes the ready file at the end. What keeps it from that is no error of a
// server that has done its work, and is seen to by the next one.
func (a *Agent) endReady() {
	if err := a.unmarkReady(); err != nil {
		a.log.Warn("the ready file is left behind", "err", err)
	}
}

// unmarkReady removes the ready file and nothing else: one of podwire's is empty, and
// what it would be a pity to lose is not.
func (a *Agent) unmarkReady() error {
	path := a.config.ReadyFile
	if path == "" {
		return nil
	}
	info, err := os.Lstat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > 0) {
		return &config.Error{Source: a.config.Source("ready-file"), Value: path, Want: "a path at which there is nothing, or an empty file"}
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil && !notExist(err) {
		return fmt.Errorf("removing the ready file: %w", err)
	}
	return nil
}
