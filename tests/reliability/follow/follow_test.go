package follow

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// TestOtherAddressIsFollowed gives the pod other addresses while its guest runs: status
// names them, the guest has them with its next renewal, a setup takes them over, and it is
// these that a teardown gives back.
func TestOtherAddressIsFollowed(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, b)
		old := w.VM.Addr
		t.Cleanup(func() { // after the teardown, which wire does
			w.Afresh(t)
			w.has(t, movedTo, old)
			w.Reaches(t, w.VM.Space, w.Reachable()...)
		})
		_, guest := w.Plug(t, w.wire(t))
		c := w.udhcpc(t, guest)
		w.change(t, "address del "+old.String()+" dev eth0", "address add "+movedTo.String()+" dev eth0",
			"route replace default via "+w.VM.Gateway.String()+" dev eth0")
		w.drifts(t, "the new address "+movedTo.String())
		if b.Keeps() {
			w.drifts(t, "lost its address "+old.String())
		}
		if b.Behind() { // whose guest has an address of its own, and keeps it
			w.movedBehind(t, guest)
			return
		}
		w.followed(t, 1)
		if err := c.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		event := w.Wait(t, c, "bound")
		if got := event.Told["ip"]; got != movedTo.Addr().String() {
			t.Errorf("the guest has %s, want %s", got, movedTo.Addr())
		}
		w.Reaches(t, guest, w.Reachable()...)
		w.takenOver(t)
		w.Reaches(t, guest, w.Reachable()...)
	})
}

// movedBehind is the rest for a guest that the pod stands for: who dials the pod's new
// address reaches it when a setup has taken that over.
func (w *testWorld) movedBehind(t *testing.T, guest *pod.Space) {
	t.Helper()
	w.listen(t, guest)
	w.takenOver(t)
	conn, err := w.Other.Dial(w.Ctx, "tcp", netip.AddrPortFrom(movedTo.Addr(), port).String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	w.Reaches(t, guest, w.Reachable()...)
}

// TestTeardownGivesWhatTheNetworkGaveLast also where nobody has run setup meanwhile.
func TestTeardownGivesWhatTheNetworkGaveLast(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pod.Bridge)
	w.wire(t)
	w.change(t, "address add "+movedTo.String()+" dev eth0", "address add "+movedTo6.String()+" dev eth0 nodad",
		"route replace default via "+w.VM.Gateway.String()+" dev eth0", "-6 route replace default via fd00:10:244:1::1 dev eth0")
	old6 := netip.PrefixFrom(world.Addr6(w.VM), 64)
	log := w.torn(t)
	for _, lost := range []string{w.VM.Addr.String(), old6.String()} {
		if text := world.Without(log, "has lost its address "+lost); text != "" {
			t.Errorf("teardown says nothing of it: %s", text)
		}
	}
	w.has(t, movedTo, w.VM.Addr)
	w.has(t, movedTo6, old6)
	w.Reaches(t, w.VM.Space, w.Reachable()...)
	w.Reaches(t, w.VM.Space, pod.Outside6)
}

// TestAnAddressMoreTakesNoneAway: what somebody gives the pod interface besides what it had is
// not the guest's until a setup takes it over, and the pod gets all of it back.
func TestAnAddressMoreTakesNoneAway(t *testing.T) {
	t.Parallel()
	strange := netip.MustParsePrefix("192.168.99.5/24")
	for _, added := range []netip.Prefix{strange, movedTo, movedTo6} {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, setup again %v", added.Addr(), again), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, pod.Bridge)
				t.Cleanup(func() { // after the teardown, which wire does
					w.Afresh(t)
					none := netip.MustParsePrefix("192.0.2.1/24")
					for _, has := range []netip.Prefix{w.VM.Addr, netip.PrefixFrom(world.Addr6(w.VM), 64), added} {
						w.has(t, has, none)
					}
					w.Reaches(t, w.VM.Space, w.Reachable()...)
					w.Reaches(t, w.VM.Space, pod.Outside6)
				})
				_, guest := w.Plug(t, w.wire(t))
				c := w.udhcpc(t, guest)
				w.hasRouter(t, guest)
				w.change(t, "address add "+added.String()+" dev eth0 nodad", "link set eth0 mtu 1400")
				w.drifts(t, "the new address "+added.String())
				w.followed(t, 1)
				if strings.Contains(w.log(t), added.String()) {
					t.Errorf("the guest is told of it: %s", w.log(t))
				}
				if again {
					w.takenOver(t)
				}
				if err := c.Signal(syscall.SIGUSR1); err != nil {
					t.Fatal(err)
				}
				told := w.Wait(t, c, "renew").Told
				if told["ip"] != w.VM.Addr.Addr().String() || told["router"] != w.VM.Gateway.String() {
					t.Errorf("the guest has %s by %s, want %s by %s", told["ip"], told["router"], w.VM.Addr.Addr(), w.VM.Gateway)
				}
				w.Reaches(t, guest, w.Reachable()...)
			})
		}
	}
}

// TestALostDefaultRouteIsNotTakenOver: a link that flaps has none afterwards, which a setup
// leaves to its network to put right, and names.
func TestALostDefaultRouteIsNotTakenOver(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		if !b.Keeps() || b.Behind() {
			return // podwire has the routes, or the guest another gateway
		}
		w := newWorld(t, b)
		_, guest := w.Plug(t, w.wire(t))
		c := w.udhcpc(t, guest)
		w.hasRouter(t, guest)
		w.change(t, "link set eth0 down", "link set eth0 up")
		lost := "lost its route default via " + w.VM.Gateway.String()
		w.drifts(t, lost)
		w.Podwire(t, "setup")
		w.drifts(t, lost)
		if err := c.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if got := w.Wait(t, c, "renew").Told["router"]; got != w.VM.Gateway.String() {
			t.Errorf("the guest's gateway is %q, want %s", got, w.VM.Gateway)
		}
		w.hasRouter(t, guest)
	})
}

// TestAGuardedGuestIsToldOfWhatItMayUse alone, until setup has taken the change over.
func TestAGuardedGuestIsToldOfWhatItMayUse(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		if b.Behind() {
			return // whose guest has an address of its own, and keeps it
		}
		w := newWorld(t, b)
		_, guest := w.Plug(t, w.wire(t, "--guard"))
		c := w.udhcpc(t, guest)
		w.change(t, "address del "+w.VM.Addr.String()+" dev eth0", "address add "+movedTo.String()+" dev eth0",
			"route replace default via "+w.VM.Gateway.String()+" dev eth0", "link set eth0 mtu 1400")
		w.followed(t, 1)
		if err := c.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if told := w.Wait(t, c, "renew").Told; told["ip"] != w.VM.Addr.Addr().String() || told["mtu"] != "1400" {
			t.Errorf("the guest is told %v before a setup", told)
		}
		w.takenOver(t)
		if err := c.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if told := w.Wait(t, c, "bound").Told; told["ip"] != movedTo.Addr().String() {
			t.Errorf("the guest is told %v after a setup", told)
		}
		w.Reaches(t, guest, w.Reachable()...)
	})
}

// TestOtherGatewayIsFollowed: of an IPv6 one the guest hears at once, by its advertisement
// and the withdrawal of the old.
func TestOtherGatewayIsFollowed(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		if b.Behind() {
			return // whose guest's gateway is the pod
		}
		w := newWorld(t, b)
		if err := w.Node.IP(w.Ctx, "address add %s/24 dev cni0", otherGateway); err != nil {
			t.Fatal(err)
		}
		router := w.LinkLocal(t, w.Other.Space, "eth0")
		_, guest := w.Plug(t, w.wire(t))
		c := w.udhcpc(t, guest)
		w.hasRouter(t, guest)
		w.change(t, "route replace default via "+otherGateway.String()+" dev eth0 onlink",
			"-6 route del default", "-6 route add default via "+router.String()+" dev eth0")
		w.hasRouters(t, guest, router.String())
		w.drifts(t, "the new route default via "+otherGateway.String(), "the new route default via "+router.String())
		if err := c.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if got := w.Wait(t, c, "renew").Told["router"]; got != otherGateway.String() {
			t.Errorf("the guest's gateway is %s, want %s", got, otherGateway)
		}
		w.takenOver(t)
		w.hasRouters(t, guest, router.String())
		w.Reaches(t, guest, pod.Outside)
	})
}

// TestOtherMTUIsFollowed: of less the guest hears at once, by a router advertisement, and
// at its renewal; more would not come through the tap until a setup has taken it over.
func TestOtherMTUIsFollowed(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, b)
		to := w.wire(t)
		_, guest := w.Plug(t, to)
		c := w.udhcpc(t, guest)
		w.hasRouter(t, guest)
		var began time.Time
		var told time.Duration
		is := func(mtu string) {
			t.Helper()
			w.Eventually(t, "has the MTU "+mtu, func() string {
				return world.Without(w.Output(t, guest, "sysctl net.ipv6.conf.nic0.mtu")+"\n", " = "+mtu+"\n")
			})
			told = time.Since(began)
			if err := c.Signal(syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			if got := w.Wait(t, c, "renew").Told["mtu"]; got != mtu {
				t.Errorf("the guest is told of an MTU of %s, want %s", got, mtu)
			}
		}
		began = time.Now()
		w.change(t, "link set eth0 mtu 1400")
		is("1400")
		world.Figure(t, topic, "from the change of the pod's MTU to the guest's own, by a router advertisement, "+string(b), told.Round(10*time.Millisecond))
		w.drifts(t, `"eth0" has an MTU of 1400, not 1450`)
		w.takenOver(t)
		if text := world.Without(w.Output(t, w.VM.Space, "ip link show dev "+to.Tap), "mtu 1400 "); text != "" {
			t.Error(text)
		}
		w.change(t, "link set eth0 mtu 1440")
		w.drifts(t, `"eth0" has an MTU of 1440, not 1400`)
		w.takenOver(t)
		is("1440")
	})
}

// TestNothingIsFollowedThatIsNoChange: a link that flaps, addresses and routes with a
// lifetime, what podwire itself does, and what is merely put back. What comes last is a
// change, and the only one that the guest is told of.
func TestNothingIsFollowedThatIsNoChange(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, b)
		w.wire(t)
		if drift := w.drift(t); drift != "" {
			t.Errorf("the pod has just been wired, and status names %q", drift)
		}
		w.change(t, "address add fd00:77::9/64 dev eth0 valid_lft 600 preferred_lft 600 nodad",
			"-6 route add 2001:db8:7::/48 dev eth0 proto ra expires 600")
		w.change(t, "link set eth0 down", "link set eth0 up", "address del fd00:77::9/64 dev eth0")
		if b.Keeps() { // with the link, the routes went
			w.drifts(t, "lost its route default via "+w.VM.Gateway.String())
			w.change(t, "route add default via "+w.VM.Gateway.String()+" dev eth0",
				"address add "+world.Addr6(w.VM).String()+"/64 dev eth0 nodad",
				"-6 route add default via fd00:10:244:1::1 dev eth0")
		} else {
			w.change(t, "address add "+w.VM.Addr.String()+" dev eth0")
			w.drifts(t, w.VM.Addr.String()+" again")
		}
		w.takenOver(t)
		w.change(t, "link set eth0 mtu 1400")
		w.followed(t, 1)
		if text := world.Without(w.log(t), "an MTU of 1400"); text != "" {
			t.Error(text)
		}
	})
}

// TestFlappingNetworkIsNoBurden has an address come and go many times in a row: the guest is
// told no more often than routers may speak.
func TestFlappingNetworkIsNoBurden(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pod.TC)
	w.wire(t)
	flaps := 100
	if world.Long() {
		flaps = 2000
	}
	began := time.Now()
	for range flaps {
		w.change(t, "address add "+movedTo.String()+" dev eth0", "address del "+movedTo.String()+" dev eth0")
	}
	w.change(t, "address add "+movedTo.String()+" dev eth0", "link set eth0 mtu 1400")
	w.Eventually(t, "comes to rest", func() string { return world.Without(w.log(t), "an MTU of 1400") })
	most := int(time.Since(began)/(3*time.Second)) + 2
	n := w.follows(t)
	if n > most {
		t.Errorf("the guest was told %d times, want at most %d:\n%s", n, most, w.log(t))
	}
	world.Figure(t, topic, "times that a guest is told while an address flaps",
		fmt.Sprintf("%d for %d flaps in %v", n, flaps, time.Since(began).Round(time.Second)))
}
