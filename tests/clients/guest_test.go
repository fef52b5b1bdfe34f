package clients

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/guest"
	"github.com/podwire/podwire/tests/pod"
)

// TestGuestHasBothFamilies boots the tests' own guest, a whole machine with a kernel of
// a distribution, under libvirt: what it says it was told is the pod's, in both
// families, and it reaches both gateways.
func TestGuestHasBothFamilies(t *testing.T) {
	for _, b := range pod.Bindings {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			hasBothFamilies(t, newWorld(t, 90*time.Second, b, true, true))
		})
	}
}

func hasBothFamilies(t *testing.T, w *world) {
	t.Helper()
	told4, told := w.told(t, true), w.told(t, false)
	m := w.boot(t, "podwire.ip6=wait", "podwire.ping=10.244.1.1,fd00:244:1::1,10.244.1.3,fd00:244:1::3")
	lease, err := m.Bound(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	lease6, err := m.Bound6(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if lease["ip"] != told4[client.Address] || lease6["ip"] != told[client.Address] || lease6["dns"] != told[client.DNS] {
		t.Errorf("the guest was told %q and %q", lease, lease6)
	}
	if _, err := m.WaitFor(w.ctx, guest.Prefix+"dhcp6 .*solicits=1 selects=1"); err != nil {
		t.Error(err)
	}
	for _, each := range []netip.Addr{subnet4.Addr().Next(), subnet6.Addr().Next(), w.other.Addr.Addr(), netip.MustParseAddr("fd00:244:1::3")} {
		if _, err := m.WaitFor(w.ctx, guest.Prefix+"ping "+each.String()+" ok"); err != nil {
			t.Error(err)
		}
	}
	has, _, err := m.Run(w.ctx, "ip -6 route; cat /etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"default via " + told[client.Default] + " ", told[client.Routes],
		"search " + told[client.Search], "nameserver 10.96.0.10", "nameserver " + told[client.DNS],
	} {
		if !strings.Contains(has, line) {
			t.Errorf("the guest has no %q:\n%s", line, has)
		}
	}
}

// boot runs podwire-launcher in the VM's pod, with a real guest, and waits until that
// is ready. The end of the test ends it.
func (w *world) boot(t *testing.T, ask ...string) *guest.Machine {
	t.Helper()
	m, err := guest.Boot(w.ctx, w.dir, w.vm, func() { t.Log("trying KVM") }, ask)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := m.ShutDown(ctx); err != nil {
			t.Error(err)
			m.Kill()
		}
	})
	return m
}
