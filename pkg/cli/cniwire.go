package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/cni"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/record"
)

// wire does what setup does, from the node, and then finish, without which it is
// taken back. What can be refused is refused before anything is touched. The lock is
// held throughout: a GC between two parts would take the note for a leftover.
func (t attachment) wire(ctx context.Context, n cni.Network, finish func(record.Record) error) error {
	c, err := n.Config()
	if err != nil {
		return err
	}
	a, err := t.agent(c)
	if err != nil {
		return cni.Fail(types.ErrInvalidNetNS, err.Error(), "")
	}
	defer a.Close()
	id, err := t.podIdentity(a)
	if err == nil {
		err = a.kernel.Require(kernel.NeedNetAdmin, kernel.NeedTun)
	}
	if err != nil {
		return failWiring(err)
	}
	unlock, err := t.lock(ctx)
	if err != nil {
		return failWiring(err)
	}
	defer unlock()
	err = t.settle(id)
	if err == nil {
		err = t.note(n.Name)
	}
	if err == nil {
		err = t.setup(ctx, a, finish)
	}
	if err != nil {
		t.forget()
		return failWiring(err)
	}
	return nil
}

// setup wires the pod, and takes it back where finish fails.
func (t attachment) setup(ctx context.Context, a *Agent, finish func(record.Record) error) error {
	wired, err := a.setup(ctx)
	if err != nil {
		return err
	}
	if err := finish(wired[0].Record); err != nil {
		return a.giveUp(ctx, wired[0].Record, err)
	}
	return nil
}

// podIdentity makes sure that the namespace is a pod's.
func (t attachment) podIdentity(a *Agent) (netstate.Identity, error) {
	id, err := a.kernel.Identity()
	if err != nil {
		return id, err
	}
	node, err := ownIdentity()
	if err == nil && id.Same(node) {
		err = cni.Fail(types.ErrInvalidNetNS, fmt.Sprintf("CNI_NETNS: %q is the node's own network, which podwire does not touch", t.netns), "")
	}
	return id, err
}

// ownIdentity is that of the namespace that the plugin itself runs in.
func ownIdentity() (netstate.Identity, error) {
	own, err := kernel.Open("")
	if err != nil {
		return netstate.Identity{}, err
	}
	defer func() { _ = own.Close() }()
	return own.Identity()
}

// settle moves a state of another namespace away. It is of an earlier life of the
// container: the runtime says which is the one that lives.
func (t attachment) settle(id netstate.Identity) error {
	r, err := t.dir.Load(t.nic)
	if err != nil || r.Snapshot.NetNS.Same(id) {
		return nil // what is wrong with it, setup says
	}
	aside, err := t.dir.SetAside(t.nic)
	if err == nil {
		t.log.Warn("the state is of an earlier network namespace of the container, set aside", "path", aside)
	}
	return err
}

// failWiring is an error with the code that says what has become of the pod.
func failWiring(err error) error {
	var known *types.Error
	var undo *apply.UndoError
	msg := oneLine(err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return cni.Fail(types.ErrTryAgainLater, msg, "")
	case errors.As(err, &undo):
		return cni.Fail(cni.CodeHalfDone, msg, "the pod's network could not be put back")
	case errors.As(err, &known):
		return known
	default:
		return cni.Fail(cni.CodeWiring, msg, "the pod's network is as it was found")
	}
}
