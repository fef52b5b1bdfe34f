//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// Status is how a finding turned out.
type Status string

// What a finding says.
const (
	StatusOK   Status = "ok"
	StatusWarn Status = "warn" // podwire works, but not all of it, or not well
	StatusFail Status = "fail" // podwire cannot work
)

// Finding is one thing that was looked at.
type Finding struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`        // what was found
	Fix    string `json:"fix,omitempty"` // what to do about it
}

// Doctor looks at all that podwire needs of the container and the kernel. The
// kernel's features are tried for real, in a network namespace that is thrown
// away, where that is allowed.
func (k *Kernel) Doctor(ctx context.Context) []Finding {
	findings := []Finding{
		capabilityFinding("NET_ADMIN", unix.CAP_NET_ADMIN),
		capabilityFinding("NET_RAW", unix.CAP_NET_RAW),
		tunFinding(),
		kvmFinding(),
		sysctlFinding(),
		k.ipv6Finding(),
		k.forwardingFinding(ctx),
	}
	return append(findings, featureFindings(ctx)...)
}

func capabilityFinding(name string, number uint) Finding {
	f := Finding{Name: "capability CAP_" + name, Status: StatusOK, Detail: "held"}
	if err := requireCapability(name, number); err != nil {
		f.Status, f.Detail, f.Fix = StatusFail, "missing", capabilityLine(name)
	}
	return f
}

func tunFinding() Finding {
	f := Finding{Name: "device " + tunDevice, Status: StatusOK, Detail: "can be opened"}
	if dev, err := openTun(); err != nil {
		f.Status, f.Detail, f.Fix = StatusFail, cannotOpen(errors.Unwrap(err)), deviceLine(tunDevice)
	} else {
		dev.Close()
	}
	return f
}

func kvmFinding() Finding {
	f := Finding{Name: "device " + kvmDevice, Status: StatusOK, Detail: "can be opened"}
	if dev, err := os.OpenFile(kvmDevice, os.O_RDWR, 0); err != nil {
		f.Status, f.Fix = StatusWarn, deviceLine(kvmDevice)
		f.Detail = cannotOpen(cause(err)) + ": machines are emulated, which is slow"
	} else {
		dev.Close()
	}
	return f
}

// ipv6Finding looks whether this namespace has IPv6. Nothing needs it: without it
// the pod has no IPv6 address that a guest could be given.
func (k *Kernel) ipv6Finding() Finding {
	f := Finding{Name: "IPv6", Status: StatusOK, Detail: "present"}
	err := k.netns.do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			f.Detail = "not in this kernel: guests get IPv4 alone"
			return nil
		}
		if err != nil {
			return err
		}
		_ = unix.Close(fd)
		off, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6") // the calling thread's
		if err == nil && strings.TrimSpace(string(off)) != "0" {
			f.Detail = "off in this pod (net.ipv6.conf.all.disable_ipv6): guests get IPv4 alone"
		}
		return unless(err, unix.ENOENT)
	})
	if err != nil {
		f.Status, f.Detail = StatusWarn, err.Error()
	}
	return f
}

// sysctlFinding looks whether the container may set sysctls. One alone is set by
// them: see forwardingFinding.
func sysctlFinding() Finding {
	const forward = "/proc/sys/net/ipv4/ip_forward"
	f := Finding{Name: "/proc/sys", Status: StatusOK, Detail: "writable"}
	switch err := unix.Access(forward, unix.W_OK); {
	case errors.Is(err, unix.EROFS):
		f.Detail = "read-only, as in any container without privileges; nothing but masquerade's IPv6 needs it"
	case err != nil:
		f.Status, f.Detail = StatusWarn, cannotOpen(err)
	}
	return f
}

// A feature is tried on a link of the throw-away namespace, which has only lo.
type feature struct {
	name string
	try  func(ctx context.Context, k *Kernel) error
	// without is how podwire does without it.
	without Status
	fix     string
}

const (
	tryName = "pw-doctor"
	tryMTU  = 1500
)

var tryMAC = netstate.MAC{0x02, 'p', 'w', 0, 0, 1}

var features = []feature{
	{"bridge", tryBridge, StatusFail, "load the kernel module bridge on the node"},
	{"tap", tryTap, StatusFail, "load the kernel module tun on the node"},
	{"packet socket", tryPacket, StatusFail, "load the kernel module af_packet on the node"},
	{tcFilterFeature, tryTC, StatusWarn, "load the kernel modules sch_ingress and cls_bpf on the node"},
	{nftFilterFeature, tryNFT, StatusWarn, "load the kernel module nf_tables on the node"},
	{
		"tc redirect (cls_u32, cls_bpf, act_mirred)", tryRedirect, StatusWarn,
		"for --binding tc and for macvtap: load the kernel modules sch_ingress, cls_u32, cls_bpf and act_mirred on the node",
	},
	natFeature,
}

// One of these is enough.
const (
	tcFilterFeature  = "tc filter (clsact, cls_bpf)"
	nftFilterFeature = "nftables filter (netdev)"
)

func tryBridge(ctx context.Context, k *Kernel) error {
	return k.Do(ctx, plan.CreateBridge{Name: tryName, MAC: tryMAC, MTU: tryMTU})
}

func tryTap(ctx context.Context, k *Kernel) error {
	return k.Do(ctx, plan.CreateTap{Name: "tap-doctor", MAC: tryMAC, MTU: tryMTU, Queues: 1})
}

func tryPacket(_ context.Context, k *Kernel) error {
	c, err := k.OpenTap("lo", tryFilter.Drop)
	if err != nil {
		return err
	}
	return c.Close()
}

var tryFilter = plan.AddFilter{Link: "lo", Name: "doctor", Drop: []plan.Match{{Kind: plan.MatchDHCPClient}}}

func tryTC(ctx context.Context, k *Kernel) error {
	l, err := k.link(ctx, tryFilter.Link)
	if err != nil {
		return err
	}
	return k.addTCFilter(ctx, l, tryFilter)
}

func tryNFT(_ context.Context, k *Kernel) error { return k.addNFTFilter(tryFilter) }

// tryRedirect tries both kinds of redirect, each on a hook of its own.
func tryRedirect(ctx context.Context, k *Kernel) error {
	all := plan.Redirect{Link: "lo", Name: "doctor", To: "lo"}
	some := plan.Redirect{Link: "lo", Name: "doctor", Match: tryFilter.Drop, Egress: true, To: "lo", Receive: true}
	return errors.Join(k.makeRedirect(ctx, all), k.makeRedirect(ctx, some))
}

// featureFindings tries the features. Of the two kinds of filter one is enough.
func featureFindings(ctx context.Context) []Finding {
	findings := make([]Finding, len(features))
	err := inThrowAway(func(k *Kernel) {
		for i, f := range features {
			findings[i] = Finding{Name: "kernel: " + f.name, Status: StatusOK, Detail: "works"}
			if err := f.try(ctx, k); err != nil {
				findings[i].Status, findings[i].Detail, findings[i].Fix = f.without, err.Error(), f.fix
			}
		}
	})
	if err != nil {
		return []Finding{{
			Name: "kernel features", Status: StatusWarn, Detail: "not tried: " + err.Error(),
			Fix: "run it once on the node as root, or in a privileged container",
		}}
	}
	oneOf(findings, "kernel: "+tcFilterFeature, "kernel: "+nftFilterFeature)
	return findings
}

// oneOf makes failures of the findings of these names where none of them is well.
func oneOf(findings []Finding, names ...string) {
	isOne := func(f Finding) bool { return slices.Contains(names, f.Name) }
	if slices.ContainsFunc(findings, func(f Finding) bool { return isOne(f) && f.Status == StatusOK }) {
		return
	}
	for i := range findings {
		if isOne(findings[i]) {
			findings[i].Status = StatusFail
		}
	}
}

// inThrowAway calls f with a namespace that is gone afterwards.
func inThrowAway(f func(*Kernel)) error {
	done := make(chan error)
	go func() { done <- throwAway(f) }()
	return <-done
}

// throwAway runs on a goroutine of its own; see namespace.enter.
func throwAway(f func(*Kernel)) error {
	runtime.LockOSThread()
	own, err := os.Open(ownNamespace)
	if err != nil {
		return err
	}
	defer own.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("a network namespace to try it in takes CAP_SYS_ADMIN: %w", err)
	}
	k, err := Open("")
	if err == nil {
		f(k)
		err = k.Close()
	}
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return err
}
