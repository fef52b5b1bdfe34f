package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/cni"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/record"
)

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

// forget removes what there is of the attachment beside its state, if that is
// gone, and the container's directory if nothing else is in it. What cannot be
// removed is in nobody's way.
func (t attachment) forget() {
	if _, err := os.Lstat(t.dir.Path(t.nic)); notExist(err) {
		_ = os.Remove(t.notePath())
		_ = os.Remove(string(t.dir))
	}
}

// del puts the pod's network back, so that the plugins before this one find what
// they made. Nothing to put back is success, however it came to that.
func del(ctx context.Context, args *skel.CmdArgs, n cni.Network) error {
	log, closeLog := cniLog(n, cni.Pod{})
	defer closeLog()
	t, err := attachmentOf(n, args.ContainerID, args.IfName, args.Netns, log)
	if err != nil {
		return err
	}
	return t.remove(ctx)
}

// remove takes the wiring back, if there is one, and forgets it.
func (t attachment) remove(ctx context.Context) error {
	r, err := t.dir.Load(t.nic)
	switch {
	case notExist(err):
		t.forget()
		return nil
	case errors.Is(err, record.ErrDamaged):
		return t.abandon(err)
	case err != nil:
		return failWiring(err)
	}
	a, err := t.open()
	if err != nil {
		return failWiring(err)
	}
	if a == nil {
		return t.drop("its network namespace is gone")
	}
	defer a.Close()
	id, err := a.kernel.Identity()
	if err != nil {
		return failWiring(err)
	}
	if !r.Snapshot.NetNS.Same(id) {
		return t.drop("the state is of another network namespace, which is gone")
	}
	err = a.Teardown(ctx)
	var undo *apply.UndoError
	switch {
	case err == nil:
		t.forget()
		return nil
	case r.Phase == record.Undoing && errors.As(err, &undo) && !errors.Is(err, context.DeadlineExceeded):
		// The runtime tries for ever, and the pod is stuck for as long. It has been
		// tried before.
		return t.abandon(err)
	default:
		return failWiring(err)
	}
}

// open returns the agent for the attachment's namespace, or nil where there is
// none any more.
func (t attachment) open() (*Agent, error) {
	if t.netns == "" {
		return nil, nil
	}
	a, err := t.agent(config.Default())
	// What is left of a namespace that was bound to a file is the empty file, which
	// setns(2) calls invalid.
	if notExist(err) || errors.Is(err, syscall.EINVAL) {
		return nil, nil
	}
	return a, err
}

// drop removes a state that there is nothing more to do with.
func (t attachment) drop(why string) error {
	t.log.Info("nothing to put back: "+why, "netns", t.netns)
	if err := t.dir.Remove(t.nic); err != nil {
		return failWiring(err)
	}
	t.forget()
	return nil
}

// abandon moves a state away that cannot be used, and says so where the runtime's
// log is read: to fail would have the runtime try again for ever.
func (t attachment) abandon(cause error) error {
	aside, err := t.dir.SetAside(t.nic)
	if err != nil {
		return failWiring(err)
	}
	fmt.Fprintf(os.Stderr, "podwire: the network of container %s was not put back: %s; its state was set aside: %s\n", t.id, oneLine(cause), aside)
	t.forget()
	return nil
}

// check compares the pod with what was done to it.
func check(ctx context.Context, args *skel.CmdArgs, n cni.Network) error {
	if err := n.Validate(); err != nil {
		return err
	}
	pod, err := cni.ParseArgs(args.Args)
	if err != nil {
		return err
	}
	log, closeLog := cniLog(n, pod)
	defer closeLog()
	t, err := attachmentOf(n, args.ContainerID, args.IfName, args.Netns, log)
	if err != nil {
		return err
	}
	r, err := t.dir.Load(t.nic)
	if notExist(err) {
		asks, err := n.Asks(pod)
		if err == nil && asks {
			err = cni.Fail(cni.CodeDrift, "the pod asks to be wired and is not", "")
		}
		return err
	}
	if err != nil {
		return failWiring(err)
	}
	return t.compare(ctx, r)
}

func (t attachment) compare(ctx context.Context, r record.Record) error {
	a, err := t.agent(config.Default())
	if err != nil {
		return cni.Fail(types.ErrInvalidNetNS, err.Error(), "")
	}
	defer a.Close()
	snapshot, err := a.kernel.Snapshot(ctx)
	if err != nil {
		return failWiring(err)
	}
	var drift []string
	switch {
	case !r.Snapshot.NetNS.Same(snapshot.NetNS):
		drift = []string{"another network namespace was wired"}
	case r.Phase != record.Applied:
		drift = []string{"the wiring was cut off"}
	default:
		drift = apply.Check(r.Steps, snapshot)
	}
	if len(drift) > 0 {
		return cni.Fail(cni.CodeDrift, fmt.Sprintf("the wiring of %q is not as planned", t.nic), strings.Join(drift, "; "))
	}
	return nil
}

// collect removes the attachments of this network that the runtime knows nothing
// of.
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
		id, nic := filepath.Dir(path), strings.TrimSuffix(filepath.Base(path), noteSuffix)
		if slices.Contains(n.Valid, types.GCAttachment{ContainerID: id, IfName: nic}) {
			continue
		}
		var to belongs
		text, err := fs.ReadFile(dir, path)
		if err == nil {
			err = json.Unmarshal(text, &to)
		}
		if err != nil && !notExist(err) { // its DEL may have been quicker
			log.Warn("not known whose this is, left alone", "path", path, "err", err)
		}
		if err != nil || to.Network != n.Name {
			continue
		}
		t, err := attachmentOf(n, id, nic, to.NetNS, log)
		if err == nil {
			err = t.remove(ctx)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return failWiring(err)
	}
	return nil
}
