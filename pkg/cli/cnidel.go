package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/cni"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/record"
)

// mostFailures is how often it is tried to put a pod back. A runtime would try for
// ever, and the pod be stuck for as long.
const mostFailures = 3

// del puts the pod's network back, so that the plugins before this one find what
// they made. Nothing to put back is success, however it came to that.
func del(ctx context.Context, args *skel.CmdArgs, n cni.Network) error {
	pod, err := cni.ParseArgs(args.Args)
	if err != nil {
		pod = cni.Pod{} // no reason to leave a pod wired
	}
	log, closeLog := cniLog(n, pod)
	defer closeLog()
	t, err := attachmentOf(n, args.ContainerID, args.IfName, args.Netns, log)
	if err != nil {
		return err
	}
	t.sweepVolume(n, pod)
	return t.remove(ctx)
}

// remove takes the wiring back, if there is one, and forgets it.
func (t attachment) remove(ctx context.Context) error {
	unlock, err := t.lockThere(ctx)
	if notExist(err) {
		return nil
	}
	if err != nil {
		return failWiring(err)
	}
	defer unlock()
	r, err := t.dir.Load(t.nic)
	switch {
	case notExist(err):
		t.forget()
		return nil
	case errors.Is(err, record.ErrConfig): // to put back is by the steps alone
	case errors.Is(err, record.ErrDamaged):
		return t.abandon(err)
	case err != nil:
		return failWiring(err)
	}
	return t.putBack(ctx, r)
}

// putBack takes a wiring back, with the lock held.
func (t attachment) putBack(ctx context.Context, r record.Record) error {
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
	err = t.teardown(ctx, a, id)
	switch {
	case err == nil:
		t.forget()
		return nil
	case t.countFailure() >= mostFailures:
		return t.abandon(err)
	default:
		return failWiring(err)
	}
}

// teardown is that of the command, with the lock held. Where it fails the pod is
// still wired.
func (t attachment) teardown(ctx context.Context, a *Agent, id netstate.Identity) error {
	err := a.kernel.Require(kernel.NeedNetAdmin)
	if err == nil {
		err = a.teardownOne(ctx, t.nic, id)
	}
	var half *apply.UndoError
	if err == nil || errors.As(err, &half) {
		return err
	}
	return &apply.UndoError{Err: err}
}

// countFailure notes that a teardown failed, and returns how many did. One that was
// killed is none: it may be what there was no time for.
func (t attachment) countFailure() int {
	r, err := t.dir.Load(t.nic)
	if err == nil || errors.Is(err, record.ErrConfig) {
		r.Failures++
		err = t.dir.Save(r)
	}
	if err != nil {
		t.log.Warn("that it failed could not be noted", "err", err)
	}
	return r.Failures
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
		return notWired(n, pod, log)
	}
	if err != nil {
		return failWiring(err)
	}
	return t.compare(ctx, r)
}

// notWired is an error if the pod should be wired.
func notWired(n cni.Network, pod cni.Pod, log *slog.Logger) error {
	wish, err := n.Wish(pod)
	asks := wish == cni.WishAlways
	if wish == cni.WishByVolume {
		var volume *os.Root
		volume, asks, err = grant(n, pod, wish, log)
		closeVolume(volume)
	}
	if err == nil && asks {
		err = cni.Fail(cni.CodeDrift, "the pod asks to be wired and is not", "")
	}
	return err
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
