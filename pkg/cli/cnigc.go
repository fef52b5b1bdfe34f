package cli

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/podwire/podwire/pkg/cni"
	"github.com/podwire/podwire/pkg/record"
)

// leftFor is how long nobody has touched what GC takes for a leftover: between the
// making of a directory and the lock on it an ADD has nothing else to show.
const leftFor = time.Minute

// collect removes the attachments of this network that the runtime knows nothing
// of, and what calls that were killed left.
func collect(ctx context.Context, _ *skel.CmdArgs, n cni.Network) error {
	log, closeLog := cniLog(n, cni.Pod{})
	defer closeLog()
	dir := os.DirFS(n.StateDir)
	notes, err := fs.Glob(dir, "*/*"+noteSuffix)
	if err != nil {
		return failWiring(err)
	}
	var errs []error
	for _, path := range notes {
		to, err := readNote(dir, path)
		if err != nil && !notExist(err) { // its DEL may have been quicker
			log.Warn("not known whose this is, left alone", "path", path, "err", err)
		}
		if err == nil && to.Network == n.Name {
			errs = append(errs, collectNoted(ctx, n, path, to, log))
		}
	}
	errs = append(errs, collectLeftovers(ctx, n, log))
	if err := errors.Join(errs...); err != nil {
		return failWiring(err)
	}
	return nil
}

// collectNoted removes the attachment of a note unless it is a valid one, and the
// states that were set aside in any case.
func collectNoted(ctx context.Context, n cni.Network, path string, to belongs, log *slog.Logger) error {
	id, nic := filepath.Dir(path), strings.TrimSuffix(filepath.Base(path), noteSuffix)
	t, err := attachmentOf(n, id, nic, to.NetNS, log)
	if err != nil {
		return err
	}
	if !slices.Contains(n.Valid, types.GCAttachment{ContainerID: id, IfName: nic}) {
		err = t.remove(ctx)
	}
	return errors.Join(err, t.dropAsides(ctx))
}

// dropAsides removes the states that were set aside and whose namespace is gone:
// until then a person may want to put it back by hand.
func (t attachment) dropAsides(ctx context.Context) error {
	asides, err := t.dir.Asides(t.nic)
	if err != nil || len(asides) == 0 {
		return err
	}
	a, err := t.open()
	if err != nil {
		return err
	}
	gone := func(record.Aside) bool { return true }
	if a != nil {
		defer a.Close()
		id, err := a.kernel.Identity()
		if err != nil {
			return err
		}
		gone = func(aside record.Aside) bool { return aside.NetNS != nil && !aside.NetNS.Same(id) }
	}
	unlock, err := t.lockThere(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, aside := range asides {
		if gone(aside) {
			err = errors.Join(err, os.Remove(aside.Path))
		}
	}
	t.forget()
	return err
}

// collectLeftovers removes the directories in which there is nothing to tell of.
func collectLeftovers(ctx context.Context, n cni.Network, log *slog.Logger) error {
	entries, err := os.ReadDir(n.StateDir)
	if notExist(err) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if !e.IsDir() || !cni.ValidID(e.Name()) {
			continue
		}
		t := attachment{id: e.Name(), dir: record.Dir(filepath.Join(n.StateDir, e.Name())), log: log}
		if _, left := t.leftovers(); left {
			errs = append(errs, t.dropLeftovers(ctx))
		}
	}
	return errors.Join(errs...)
}

func (t attachment) dropLeftovers(ctx context.Context) error {
	unlock, err := t.lockThere(ctx)
	if notExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	names, left := t.leftovers()
	if !left {
		return nil
	}
	for _, name := range names {
		err = errors.Join(err, os.Remove(filepath.Join(string(t.dir), name)))
	}
	return errors.Join(err, os.Remove(string(t.dir)))
}

// leftovers returns what is in the container's directory, and whether nobody needs
// it: there is nothing but what a writer that was killed has left, and that is old.
func (t attachment) leftovers() (names []string, left bool) {
	info, err := os.Stat(string(t.dir))
	if err != nil || time.Since(info.ModTime()) < leftFor {
		return nil, false
	}
	entries, err := os.ReadDir(string(t.dir))
	if err != nil {
		return nil, false
	}
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".tmp":
		case noteSuffix: // a note comes before the state: one that is cut off is of none
			if _, err := readNote(os.DirFS(string(t.dir)), e.Name()); err == nil {
				return nil, false
			}
		default:
			return nil, false
		}
		names = append(names, e.Name())
	}
	return names, true
}
