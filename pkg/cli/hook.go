package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/domxml"
	"github.com/podwire/podwire/pkg/plan"
	"github.com/podwire/podwire/pkg/record"
)

// hookName is what libvirt calls its hook for QEMU domains: a podwire under that
// name is the hook.
const hookName = "qemu"

// release is the operation by which libvirt says that a domain needs nothing any more.
const release = "release end"

const hookHelp = `Be libvirt's hook for QEMU domains: "prepare begin" is prestart, "release end" is teardown,
and every other operation succeeds and does nothing. The domain's XML comes on standard input;
a domain without an interface on one of podwire's taps, or a macvtap, is none of its business.

A link to podwire at /etc/libvirt/hooks/qemu is enough: by that name podwire is the hook.
libvirt gives its hooks an empty environment: where there are settings, let /etc/libvirt/hooks/qemu
be a script that runs "podwire hook" with them and its own arguments, as manifests/hook has it.

Needs CAP_NET_ADMIN, CAP_NET_RAW and /dev/net/tun.`

func hookCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hook DOMAIN OPERATION SUBOPERATION EXTRA",
		Short: "be libvirt's hook for QEMU domains",
		Long:  hookHelp,
		Args:  hookArgs,
	}
	AddFlags(cmd, config.Setup, config.Serve)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		domain, err := ReadInput(cmd.InOrStdin(), "-")
		if err != nil {
			return err
		}
		err = run(func(ctx context.Context, _ *cobra.Command, a *Agent) error {
			return a.hook(ctx, args[1]+" "+args[2], domain)
		})(cmd, nil)
		if args[1]+" "+args[2] == release {
			return puttingBack(err)
		}
		return err
	}
	return cmd
}

// hookArgs takes more arguments than it knows of: libvirt may come to give more.
func hookArgs(cmd *cobra.Command, args []string) error {
	if len(args) < 3 {
		return usageError{fmt.Errorf("want the arguments that libvirt gives its hook, got %d: %s", len(args), cmd.UseLine())}
	}
	return nil
}

// hook must not ask libvirt anything, which waits for it.
func (a *Agent) hook(ctx context.Context, operation, domain string) error {
	if operation != "prepare begin" && operation != release {
		return nil
	}
	asks := a
	if operation == release {
		asks = a.taking(record.ErrConfig)
	}
	ours, err := asks.hasTap(ctx, domain)
	if err != nil && operation == release {
		err = a.halfDone(ctx, err, func(record.Record) bool { return true })
	}
	if err != nil || !ours {
		return err
	}
	if operation == release {
		return a.Teardown(ctx)
	}
	_, err = a.Prestart(ctx)
	return err
}

// hasTap reports whether a domain has an interface on one of the taps that are
// there, or would be.
func (a *Agent) hasTap(ctx context.Context, domain string) (bool, error) {
	taps, err := a.possible(ctx, domain)
	if err != nil || len(taps) == 0 {
		return false, err
	}
	devices, err := a.planned(ctx)
	if err != nil {
		return false, err
	}
	for _, d := range devices {
		if slices.Contains(taps, d.Tap) {
			return true, nil
		}
	}
	return false, nil
}

// possible are those of a domain's taps that could be podwire's: whatever is wrong
// with the pod is no matter of a machine that has none.
func (a *Agent) possible(ctx context.Context, domain string) ([]string, error) {
	taps, err := domxml.Taps(domain)
	if err != nil {
		return nil, usageError{err}
	}
	if len(taps) == 0 {
		return nil, nil
	}
	s, err := a.kernel.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(taps, func(tap string) bool {
		link, _ := s.LinkByName(tap)
		return !strings.HasPrefix(tap, plan.TapPrefix) && config.Bridge.For(link) != config.Macvtap
	}), nil
}

// AsHook makes the arguments of a podwire that was called by the name of
// libvirt's hook those of the command hook. A copy of that name also starts
// itself as a server: libvirt names an operation where that has a flag.
func AsHook(args []string) []string {
	if len(args) == 0 || filepath.Base(args[0]) != hookName || len(args) > 2 && strings.HasPrefix(args[2], "--") {
		return args
	}
	return append([]string{args[0], "hook"}, args[1:]...)
}
