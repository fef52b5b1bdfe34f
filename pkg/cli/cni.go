package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/podwire/podwire/pkg/cni"
	"github.com/podwire/podwire/pkg/config"
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
	wish, err := n.Wish(pod)
	if err != nil {
		return err
	}
	if wish == cni.WishNothing {
		return types.PrintResult(previous, n.CNIVersion)
	}
	log, closeLog := cniLog(n, pod)
	defer closeLog()
	volume, granted, err := grant(n, pod, wish, log)
	if err != nil {
		return err
	}
	defer closeVolume(volume)
	if !granted {
		return types.PrintResult(previous, n.CNIVersion)
	}
	t, err := attachmentOf(n, args.ContainerID, args.IfName, args.Netns, log)
	if err != nil {
		return err
	}
	return t.wire(ctx, n, func(r record.Record) error {
		if err := t.publish(volume); err != nil {
			return err
		}
		result, err := cni.Result(previous, args.Netns, podwireLinks(r)...)
		if err != nil {
			return err
		}
		return types.PrintResult(result, n.CNIVersion)
	})
}

// grant reports whether a pod's wish is fulfilled, and opens the volume that its
// state goes to: nil where there is no pod of Kubernetes to hand it to. Only a pod
// that asked itself is refused for want of a volume.
func grant(n cni.Network, pod cni.Pod, wish cni.Wish, log *slog.Logger) (volume *os.Root, granted bool, err error) {
	publishes, err := n.Published(pod)
	if err == nil && publishes {
		volume, err = openVolume(n.KubeletDir, pod)
	}
	if err != nil && wish == cni.WishByVolume {
		if !errors.Is(err, cni.ErrNoVolume) {
			log.Warn("not wired: whether it has the volume for that cannot be seen", "err", err)
		}
		return nil, false, nil
	}
	return volume, err == nil, err
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

// ready says whether pods can be wired on this node, so far as the configuration
// goes. Runtimes ask every few seconds, and take the network of the whole node for
// broken, also of pods that do not ask to be wired, where it fails: what else a wiring
// needs is for its ADD to say.
func ready(_ context.Context, _ *skel.CmdArgs, n cni.Network) error { return n.Validate() }

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
