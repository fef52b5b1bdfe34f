//go:build linux

package kernel

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// openQueue opens a tap as a hypervisor does, and closes it.
func openQueue(name string) error {
	fd, err := attachQueue(name)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// attachQueue opens a tap in the calling thread's namespace.
func attachQueue(name string) (int, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// guest holds a tap open until the test ends.
func (p *pod) guest(t *testing.T, tap string) (fd int) {
	t.Helper()
	var err error
	// A process that another test starts holds a copy of every descriptor until it
	// has become another program, that of a tap just made among them.
	until(t, "nobody else to hold the tap", func() bool {
		p.Do(t, func() { fd, err = attachQueue(tap) })
		return !errors.Is(err, unix.EBUSY)
	})
	if err != nil {
		t.Fatalf("opening %q as a guest: %v", tap, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestTapIsMadeAsTheStepSays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step plan.CreateTap
		want []string // in the words of ip -d link
	}{
		"root's":      {plan.CreateTap{MTU: 1450, Queues: 1}, []string{"mtu 1450", "user root"}},
		"a user's":    {plan.CreateTap{MTU: 9000, Queues: 1, Owner: &plan.Owner{UID: 107, GID: -1}}, []string{"mtu 9000", "user 107"}},
		"a group's":   {plan.CreateTap{MTU: 1450, Queues: 1, Owner: &plan.Owner{UID: 107, GID: 108}}, []string{"user 107 group 108"}},
		"many queues": {plan.CreateTap{MTU: 1450, Queues: 4}, []string{"multi_queue numqueues"}},
		"small MTU":   {plan.CreateTap{MTU: 1000, Queues: 1}, []string{"mtu 1000"}},
		"up":          {plan.CreateTap{MTU: 1450, Queues: 1, Up: true}, []string{"<NO-CARRIER,BROADCAST,MULTICAST,UP>"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, nil)
			before := p.state(t)
			c.step.Name, c.step.MAC = "tap-eth0", tapMAC
			p.do(t, c.step)
			got := p.Run(t, "ip", "-d", "link", "show", "tap-eth0")
			for _, want := range append(c.want, tapMAC.String(), "tun type tap pi off vnet_hdr on", "persist on", "state DOWN") {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
			if !strings.Contains(got, "addrgenmode none") && c.step.MTU >= 1280 {
				t.Errorf("no addrgenmode none in\n%s", got)
			}
			p.do(t, c.step)
			p.undo(t, c.step)
			p.undo(t, c.step)
			p.wantState(t, before)
		})
	}
}

// The first thing that happens to a tap is that a hypervisor opens it; a second
// set-up finds it in use.
func TestTapThatIsHeldOpenIsDoneAlready(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	step := plan.CreateTap{Name: "tap-eth0", MAC: tapMAC, MTU: 1450, Queues: 1}
	p.do(t, step)
	p.guest(t, step.Name)
	p.do(t, step)
}

// A run that was killed left the tap made but not set.
func TestTapThatIsHalfMadeIsFinished(t *testing.T) {
	t.Parallel()
	for name, up := range map[string]bool{"a port": false, "up": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, nil)
			step := plan.CreateTap{Name: "tap-eth0", MAC: tapMAC, MTU: 1450, Queues: 1, Up: up}
			p.do(t, step)
			want := p.state(t)
			p.IP(t, "link set tap-eth0 down mtu 1500 addrgenmode eui64 address 02:00:00:00:00:99")
			p.do(t, step)
			p.wantState(t, want)
		})
	}
}

func TestTapOfAnotherIsAConflictAndStays(t *testing.T) {
	t.Parallel()
	for name, add := range map[string]string{
		"another kind":  "link add tap-eth0 type bridge",
		"a tun":         "tuntap add dev tap-eth0 mode tun",
		"without vnet":  "tuntap add dev tap-eth0 mode tap user 0",
		"another owner": "tuntap add dev tap-eth0 mode tap vnet_hdr user 55",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, nil)
			p.IP(t, add)
			before := p.state(t)
			step := plan.CreateTap{Name: "tap-eth0", MAC: tapMAC, MTU: 1450, Queues: 1}
			err := p.k.Do(t.Context(), step)
			if !errors.Is(err, ErrConflict) {
				t.Errorf("got %v, want a conflict", err)
			}
			p.undo(t, step)
			p.wantState(t, before)
		})
	}
}

// Without an owner anybody who can open the device could take the tap over.
func TestTapIsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.do(t, plan.CreateTap{Name: "tap-eth0", MAC: tapMAC, MTU: 1450, Queues: 1},
		plan.CreateTap{Name: "tap-eth1", MAC: tapMAC, MTU: 1450, Queues: 1, Owner: &plan.Owner{UID: 65534, GID: -1}})
	// Owner and group are checked where the capability is not held.
	p.Do(t, func() {
		without(t, func() {
			if err := openQueue("tap-eth0"); err != nil {
				t.Errorf("root's tap opened by root: %v", err)
			}
			if err := openQueue("tap-eth1"); !errors.Is(err, unix.EPERM) {
				t.Errorf("a user's tap opened by another: %v", err)
			}
		}, unix.CAP_NET_ADMIN)
	})
}
