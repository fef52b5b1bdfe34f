package local

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/guest"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// The second network of a pod with many interfaces, which leads nowhere else; and the
// addresses that the guest and its neighbour give themselves on the third.
var (
	second, second6  = netip.MustParsePrefix("192.168.5.0/24"), netip.MustParsePrefix("fd00:5::/64")
	guest2, neighbor = netip.MustParsePrefix("192.168.9.2/24"), netip.MustParsePrefix("192.168.9.1/24")
)

// attachMore gives both pods a net1 of a second network, as Multus does, and a net2
// with no address at all, a cable between the two; not where the guest is to be behind the
// pod, which takes an address. It returns the other pod's addresses on net1, and on net2 if
// that is there.
func (w *testWorld) attachMore(t *testing.T) []netip.Addr {
	t.Helper()
	network := pod.BridgeNetwork(second, world.PodMTU).And(second6).
		With("name", "storage").With("bridge", "cni1").With("isDefaultGateway", false)
	var there []netip.Addr
	for _, p := range []*pod.Pod{w.VM, w.Other} {
		first := slices.Clone(p.Addrs)
		if _, _, err := p.Attach(w.Ctx, "net1", network); err != nil {
			t.Fatal(err)
		}
		there = nil
		for _, each := range p.Addrs {
			there = append(there, each.Addr())
		}
		p.Addrs = first
	}
	if w.Binding.Behind() {
		return there
	}
	err := errors.Join(
		w.VM.Veth(w.Ctx, "net2", w.Other.Space, "net2"),
		w.VM.IP(w.Ctx, "link set net2 up"),
		w.Other.IP(w.Ctx, "link set net2 up"),
		w.Other.IP(w.Ctx, "address add %s dev net2", neighbor),
	)
	if err != nil {
		t.Fatal(err)
	}
	w.LinkLocal(t, w.VM.Space, "net2") // at rest
	return append(there, neighbor.Addr())
}

// onlyThere leaves out net2 where that is not.
func (w *testWorld) onlyThere(links []string) []string {
	return slices.DeleteFunc(slices.Clone(links), func(link string) bool { return w.Binding.Behind() && strings.HasSuffix(link, "net2") })
}

// networkStatus is what Multus writes of the pod, in another order than the pod's own.
const networkStatus = `[
  {"name": "default/storage", "interface": "net1", "ips": ["192.168.5.2"], "dns": {}},
  {"name": "kindnet", "interface": "eth0", "ips": ["10.244.1.2"], "default": true, "dns": {}},
  {"name": "default/cable", "interface": "net2", "dns": {}}
]`

// TestManyInterfacesAreManyNICs: the guest has all of the pod's networks, and the one
// default route of each family that the pod had.
func TestManyInterfacesAreManyNICs(t *testing.T) {
	for name, test := range map[string]struct {
		args  []string
		order []string
		names map[string]string // of the networks
	}{
		"all": {[]string{"--all"}, []string{"eth0", "net1", "net2"}, map[string]string{"eth0": "", "net1": "", "net2": ""}},
		"network status": {
			[]string{"--all", "--network-status", "/run/podinfo/network-status"},
			[]string{"net1", "eth0", "net2"},
			map[string]string{"eth0": "kindnet", "net1": "default/storage", "net2": "default/cable"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			world.OnEach(t, func(t *testing.T, b pod.Binding) {
				w := newWorldOf(t, world.DualBridge, world.ResolvConf6, time.Minute).with(b)
				there := w.attachMore(t)
				if err := w.VM.WriteFile("/run/podinfo/network-status", []byte(networkStatus), 0o644); err != nil {
					t.Fatal(err)
				}
				all := w.PrestartAll(t, test.args...)
				var order []string
				space := w.NewGuest(t)
				for _, to := range all {
					order = append(order, to.Pod)
					w.PlugInto(t, to, space, to.Pod)
				}
				if diff := cmp.Diff(w.onlyThere(test.order), order); diff != "" {
					t.Errorf("the interfaces (-want +got):\n%s", diff)
				}
				w.wantOneServer(t, test.names)
				w.useAll(t, space)

				for _, line := range []string{"ip route show default", "ip -6 route show default"} {
					if out := w.Output(t, space, line); strings.Count(out, "default") != 1 || !strings.Contains(out, "dev eth0") {
						t.Errorf("guest# %s\n%s", line, out)
					}
				}
				targets := append(slices.Clone(there), w.Other.Addrs[0].Addr(), w.Other.Addrs[1].Addr(), pod.Outside, pod.Outside6)
				w.Reaches(t, space, targets...)
			})
		})
	}
}

// wantOneServer checks what podwire says of the interfaces.
func (w *testWorld) wantOneServer(t *testing.T, names map[string]string) {
	t.Helper()
	pids := map[int]bool{}
	got := map[string]string{}
	for _, each := range w.Status(t) {
		got[each.Pod] = each.Network
		if each.Plain != (each.Pod == "net2") || each.Serving == each.Plain {
			t.Errorf("of %s status says plain=%v serving=%v", each.Pod, each.Plain, each.Serving)
		}
		if each.Serving {
			pids[each.PID] = true
		}
	}
	names = maps.Clone(names)
	if w.Binding.Behind() {
		delete(names, "net2")
	}
	if diff := cmp.Diff(names, got); diff != "" {
		t.Errorf("the networks (-want +got):\n%s", diff)
	}
	if len(pids) != 1 {
		t.Errorf("%d processes serve", len(pids))
	}
}

// useAll has a guest's clients configure the two links that are served, and gives the
// third, if there is one, an address by hand.
func (w *testWorld) useAll(t *testing.T, space *pod.Space) {
	t.Helper()
	for _, link := range []string{"net1", "eth0"} {
		c, err := client.Udhcpc(space, w.Dir, link)
		event := w.Wait(t, world.Running(t, c, err), "bound")
		if routes := event.Told["staticroutes"]; link == "net1" && (event.Told["router"] != "" || strings.Contains(routes, "0.0.0.0/0")) {
			t.Errorf("the guest was told a default route on %s: router=%q routes=%q", link, event.Told["router"], routes)
		}
		w.bind6(t, space, link)
	}
	if w.Binding.Behind() {
		return
	}
	if err := space.IP(w.Ctx, "address add %s dev net2", guest2); err != nil {
		t.Fatal(err)
	}
}

// TestGuestHasAllInterfaces is a real guest with three NICs.
func TestGuestHasAllInterfaces(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorldOf(t, world.DualBridge, world.ResolvConf6, bootTime).with(b)
		there := w.attachMore(t)
		m := w.bootWith(t, []string{"--all"})
		var taps []string
		for line := range strings.Lines(w.Output(t, w.VM.Space, "virsh -c qemu:///system domiflist vm-0")) {
			if words := strings.Fields(line); len(words) == 5 && strings.HasPrefix(words[0], "tap-") {
				taps = append(taps, words[0])
			}
		}
		if diff := cmp.Diff(w.onlyThere([]string{"tap-eth0", "tap-net1", "tap-net2"}), taps); diff != "" {
			t.Errorf("libvirt's interfaces (-want +got):\n%s", diff)
		}
		for _, nic := range []string{"eth0", "eth1"} {
			for _, lease := range []string{"lease", "lease6"} {
				if _, err := m.WaitFor(w.Ctx, fmt.Sprintf("^%s%s event=bound nic=%s ", guest.Prefix, lease, nic)); err != nil {
					t.Error(err)
				}
			}
		}
		for _, line := range []string{"ip route show default", "ip -6 route show default"} {
			if out := w.run(t, m, line); strings.Count(out, "default") != 1 || !strings.Contains(out, "dev eth0") {
				t.Errorf("guest# %s\n%s", line, out)
			}
		}
		if !b.Behind() {
			w.run(t, m, "ip address add "+guest2.String()+" dev eth2")
		}
		for _, target := range append(there, w.Other.Addrs[0].Addr(), w.Other.Addrs[1].Addr(), pod.Outside, pod.Outside6) {
			w.run(t, m, "try-ping "+target.String())
		}
		w.terminate(t, m)
	})
}
