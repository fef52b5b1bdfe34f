//go:build linux

package kernel

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

func TestDoctorSaysWhetherIPv6IsForwarded(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	want := func(k *Kernel, status Status, detail string) (fix string) {
		t.Helper()
		f := k.forwardingFinding(t.Context())
		if f.Name != "IPv6 forwarding" || f.Status != status || !strings.HasPrefix(f.Detail, detail) {
			t.Errorf("got %+v, not %q", f, detail)
		}
		return f.Fix
	}
	want(p.k, StatusOK, "off, and nothing to forward")
	p.Addr(t, "eth0", "fd00:10:244:1::7/64")
	want(p.k, StatusOK, "off; the masquerade binding turns it on")
	p.readOnly(t, func(k *Kernel) {
		fix := want(k, StatusWarn, "off, and /proc/sys is read-only")
		for _, line := range []string{`sysctls: [{name: net.ipv6.conf.all.forwarding, value: "1"}]`, "--vm-ipv6-network-cidr none", "chained"} {
			if !strings.Contains(fix, line) {
				t.Errorf("no %q in %q", line, fix)
			}
		}
	})
	p.set(t, "net.ipv6.conf.all.forwarding=1")
	want(p.k, StatusOK, "on")
	p.readOnly(t, func(k *Kernel) { want(k, StatusOK, "on") })
}

func TestDoctorTriesTranslation(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	before := p.Run(t, "nft", "list", "ruleset")
	has := slices.IndexFunc(p.k.Doctor(t.Context()), func(f Finding) bool {
		return f.Name == "kernel: "+natFeature.name && f.Status == StatusOK
	})
	if has < 0 {
		t.Error("no finding of it, or a bad one")
	}
	if after := p.Run(t, "nft", "list", "ruleset"); after != before {
		t.Errorf("it has changed the pod: %s", after)
	}
}

// What a module is missing for, and a kernel without nftables, say what to load.
func TestMissingTranslationIsExplained(t *testing.T) {
	t.Parallel()
	for _, errno := range []unix.Errno{unix.ENOENT, unix.EPROTONOSUPPORT, unix.EOPNOTSUPP} {
		if err := missingNAT(errno); !strings.Contains(err.Error(), "nft_chain_nat") {
			t.Errorf("%v is %v", errno, err)
		}
	}
	if err := missingNAT(unix.EPERM); err != unix.EPERM { //nolint:errorlint // as it was
		t.Errorf("another error is %v", err)
	}
	p := newPod(t, nil)
	err := p.k.Do(t.Context(), plan.Translate{Link: "eth0", Table: "podwire-eth0", Chains: []plan.Chain{
		{Name: "c", Type: "none", Hook: "input"},
	}})
	if err == nil || !strings.Contains(err.Error(), "add chain c { type none hook input priority 0; }: ") || !strings.Contains(err.Error(), natModules) {
		t.Errorf("a type that the kernel has not: %v", err)
	}
}
