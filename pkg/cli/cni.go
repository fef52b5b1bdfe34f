package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/cni"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
	"github.com/podwire/podwire/pkg/record"
)

// IsCNI reports whether a container runtime called this program as its CNI plugin:
// it says so in the environment, and gives no arguments.
func IsCNI(args []string) bool { return len(args) == 1 && os.Getenv("CNI_COMMAND") != "" }

// CNI is podwire as a CNI plugin: it does what the environment and standard input
// say, prints the result or the error as JSON, and returns the exit code.
func CNI() int {
	signal.Ignore(syscall.SIGPIPE)
	err := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: guarded(add), Del: guarded(del), Check: guarded(check), GC: guarded(collect), Status: guarded(ready),
	}, cni.Versions, "podwire "+Version())
	if err == nil {
		return ExitOK
	}
	if perr := err.Print(); perr != nil {
		fmt.Fprintln(os.Stderr, "podwire:", err)
	}
	return ExitFailed
}

// guarded makes a plugin of a function: a panic in it is an error as any other.
func guarded(do func(context.Context, *skel.CmdArgs, cni.Network) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = cni.Fail(cni.CodeHalfDone, fmt.Sprintf("a bug in podwire: %v", p), string(debug.Stack()))
			}
		}()
		n, err := cni.ParseNetwork(args.StdinData)
		if err != nil {
			return err
		}
		return do(context.Background(), args, n)
	}
}

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

// lockTimeout is how long a call waits for another one of the same container, which
// a runtime does not make. It is told to try again before it loses patience.
const lockTimeout = 10 * time.Second

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

// add wires a pod that asks for it. Any other is let through.
func add(ctx context.Context, args *skel.CmdArgs, n cni.Network) error {
	if err := n.Validate(); err != nil {
		return err
	}
	previous, err := n.Previous()
	if err != nil {
		return err
	}
	pod, err := cni.ParseArgs(args.Args)
	if err != nil {
		return err
	}
	asks, err := n.Asks(pod)
	if err != nil {
		return err
	}
	if !asks {
		return types.PrintResult(previous, n.CNIVersion)
	}
	log, closeLog := cniLog(n, pod)
	defer closeLog()
	t, err := attachmentOf(n, args.ContainerID, args.IfName, args.Netns, log)
	if err != nil {
		return err
	}
	r, err := t.wire(ctx, n, pod)
	if err != nil {
		return err
	}
	result, err := cni.Result(previous, args.Netns, podwireLinks(r)...)
	if err == nil {
		err = types.PrintResult(result, n.CNIVersion)
	}
	if err != nil {
		return failWiring(t.unwire(ctx, err))
	}
	return nil
}

// podwireLinks are those that the steps of a wiring make.
func podwireLinks(r record.Record) []cni.Link {
	var links []cni.Link
	for _, step := range r.Steps {
		switch s := step.(type) {
		case plan.CreateBridge:
			links = append(links, cni.Link{Name: s.Name, MAC: s.MAC.String(), MTU: s.MTU})
		case plan.CreateTap:
			links = append(links, cni.Link{Name: s.Name, MAC: s.MAC.String(), MTU: s.MTU})
		}
	}
	return links
}

// wire does what setup does, from the node, and hands the pod its state. What
// can be refused is refused before anything is touched.
func (t attachment) wire(ctx context.Context, n cni.Network, pod cni.Pod) (r record.Record, err error) {
	c, err := n.Config()
	if err != nil {
		return r, err
	}
	publishes, err := n.Published(pod)
	if err != nil {
		return r, err
	}
	var volume *os.Root
	if publishes {
		if volume, err = openVolume(n.KubeletDir, pod); err != nil {
			return r, err
		}
		defer func() { _ = volume.Close() }()
	}
	a, err := t.agent(c)
	if err != nil {
		return r, cni.Fail(types.ErrInvalidNetNS, err.Error(), "")
	}
	defer a.Close()
	defer func() {
		if err != nil {
			t.forget()
		}
	}()
	if err := t.settle(ctx, a, n); err != nil {
		return r, failWiring(err)
	}
	wired, err := a.Setup(ctx)
	if err != nil {
		return r, failWiring(err)
	}
	r = wired[0].Record
	if volume == nil {
		return r, nil
	}
	if err := publish(volume, t.dir.Path(t.nic), t.nic+".json"); err != nil {
		return r, failWiring(a.takeBackAll(ctx, err))
	}
	return r, nil
}

// takeBackAll undoes a finished wiring, because of err.
func (a *Agent) takeBackAll(ctx context.Context, err error) error {
	if undo := a.Teardown(ctx); undo != nil {
		return &apply.UndoError{Cause: err, Err: undo}
	}
	return err
}

// settle makes sure that the namespace is a pod's, and notes whose it is. A state
// of another namespace is of an earlier life of the container: the runtime says
// which is the one that lives.
func (t attachment) settle(ctx context.Context, a *Agent, n cni.Network) error {
	id, err := a.kernel.Identity()
	if err != nil {
		return err
	}
	node, err := ownIdentity()
	if err != nil {
		return err
	}
	if id.Same(node) {
		return cni.Fail(types.ErrInvalidNetNS, fmt.Sprintf("CNI_NETNS: %q is the node's own network, which podwire does not touch", t.netns), "")
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if r, err := t.dir.Load(t.nic); err == nil && !r.Snapshot.NetNS.Same(id) {
		aside, err := t.dir.SetAside(t.nic)
		if err != nil {
			return err
		}
		t.log.Warn("the state is of an earlier network namespace of the container, set aside", "path", aside)
	}
	return t.note(n.Name)
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

// unwire takes a finished wiring back, because of err.
func (t attachment) unwire(ctx context.Context, err error) error {
	a, openErr := t.agent(config.Default())
	if openErr != nil {
		return &apply.UndoError{Cause: err, Err: openErr}
	}
	defer a.Close()
	err = a.takeBackAll(ctx, err)
	t.forget()
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

// ready says whether pods can be wired on this node.
func ready(ctx context.Context, _ *skel.CmdArgs, n cni.Network) error {
	if err := n.Validate(); err != nil {
		return err
	}
	k, err := kernel.Open("")
	if err != nil {
		return cni.Fail(cni.CodeNotReady, err.Error(), "")
	}
	defer func() { _ = k.Close() }()
	var missing []string
	for _, f := range k.Doctor(ctx) {
		if f.Status == kernel.StatusFail {
			missing = append(missing, fmt.Sprintf("%s: %s (%s)", f.Name, f.Detail, f.Fix))
		}
	}
	if len(missing) > 0 {
		return cni.Fail(cni.CodeNotReady, "podwire cannot wire pods on this node", strings.Join(missing, "; "))
	}
	return nil
}

// cniLog is where the plugin logs: to the file that the configuration names, or
// warnings alone to standard error, which is the runtime's log.
func cniLog(n cni.Network, pod cni.Pod) (*slog.Logger, func()) {
	var w io.Writer = os.Stderr
	c, done := config.Default(), func() {}
	c.LogLevel = "warn"
	if n.Log != "" {
		f, err := os.OpenFile(n.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			w, done = f, func() { f.Close() }
			c.LogLevel = "info"
		} else {
			fmt.Fprintln(os.Stderr, "podwire: opening the log:", err)
		}
	}
	log := Logger(c, w)
	if pod.Name != "" {
		log = log.With("pod", pod.String())
	}
	return log, done
}
