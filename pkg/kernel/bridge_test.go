//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

var bridgeStep = plan.CreateBridge{Name: "pw-eth0", MAC: bridgeMAC, MTU: 1450}

func TestBridgeIsMadeToForwardAtOnceAndEverything(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.do(t, bridgeStep)
	if n := p.changes(func() { p.do(t, bridgeStep) }); n > 0 {
		t.Errorf("doing it again takes %d changes", n)
	}
	got := p.Run(t, "ip", "-d", "link", "show", "pw-eth0")
	for _, want := range []string{
		"UP", "mtu 1450", bridgeMAC.String(), "forward_delay 0 ", "stp_state 0 ", "mcast_snooping 0 ", "addrgenmode none",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestBridgeThatIsHalfMadeIsFinished(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.do(t, bridgeStep)
	want := p.state(t)
	p.IP(t, "link set pw-eth0 down",
		"link set pw-eth0 mtu 1500 addrgenmode eui64 address 02:00:00:00:00:99 type bridge mcast_snooping 1 forward_delay 1500 stp_state 1")
	p.do(t, bridgeStep)
	p.wantState(t, want)
}

func TestBridgeOverAnotherLinkIsAConflict(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.IP(t, "tuntap add dev pw-eth0 mode tap")
	before := p.state(t)
	if err := p.k.Do(t.Context(), bridgeStep); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v, want a conflict", err)
	}
	p.undo(t, bridgeStep)
	p.wantState(t, before)
}

func TestPortOfAnotherBridgeIsAConflict(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.IP(t, "link add br0 type bridge", "link set eth0 master br0")
	p.do(t, bridgeStep)
	before := p.state(t)
	step := plan.AttachPort{Link: "eth0", Bridge: "pw-eth0"}
	if err := p.k.Do(t.Context(), step); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v, want a conflict", err)
	}
	p.undo(t, step)
	p.wantState(t, before)
}

func TestPortGoesDownAgainOnlyIfItWasDown(t *testing.T) {
	t.Parallel()
	for name, up := range map[string]bool{"was up": true, "was down": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, nil)
			p.IP(t, "link set eth0 addrgenmode none")
			if !up {
				p.Down(t, "eth0")
			}
			p.do(t, bridgeStep)
			port := func() string { return p.Run(t, "ip", "-d", "link", "show", "eth0") }
			before := port()
			step := plan.AttachPort{Link: "eth0", Bridge: "pw-eth0", WasUp: up}
			p.do(t, step)
			if got := port(); !strings.Contains(got, "master pw-eth0") || !strings.Contains(got, "learning off") {
				t.Errorf("the port is\n%s", got)
			}
			if n := p.changes(func() { p.do(t, step) }); n > 0 {
				t.Errorf("doing it again takes %d changes", n)
			}
			for range 2 {
				p.undo(t, step)
				if diff := cmp.Diff(before, port()); diff != "" {
					t.Errorf("the port is (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestPortIsUndoneWithoutItsBridgeAndWithoutItself(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	step := plan.AttachPort{Link: "eth0", Bridge: "pw-eth0", WasUp: true}
	p.undo(t, step)
	p.undo(t, plan.AttachPort{Link: "tap-eth0", Bridge: "pw-eth0"})
	if err := p.k.Do(t.Context(), step); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("attaching to no bridge: %v", err)
	}
}

func TestMACIsSetAndGivenBack(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.IP(t, "link set eth0 addrgenmode none")
	before := p.state(t)
	link, _ := p.snapshot(t).LinkByName("eth0")
	step := plan.SetMAC{Link: "eth0", MAC: portMAC, Was: link.MAC}
	p.do(t, step, step)
	if l, _ := p.snapshot(t).LinkByName("eth0"); l.MAC != portMAC || !l.Up {
		t.Errorf("got %+v", l)
	}
	p.undo(t, step, step)
	p.wantState(t, before)

	p.Delete(t, "eth0")
	p.undo(t, step)
	if err := p.k.Do(t.Context(), step); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a link that is gone: %v", err)
	}
}

// busyWhileUp answers as a driver does that changes its MAC only while down.
func (p *pod) busyWhileUp(t *testing.T) {
	real, eth0 := p.k.route.execute, p.Index(t, "eth0")
	p.k.route.execute = func(req *nl.NetlinkRequest) ([][]byte, error) {
		if req.Type == unix.RTM_SETLINK && int(binary.NativeEndian.Uint32(req.RawData[4:])) == eth0 {
			setsMAC := slices.ContainsFunc(attributes(req.RawData[unix.SizeofIfInfomsg:]),
				func(a attribute) bool { return a.kind == unix.IFLA_ADDRESS })
			if setsMAC && !strings.Contains(p.Run(t, "ip", "link", "show", "eth0"), "state DOWN") {
				return nil, unix.EBUSY
			}
		}
		return real(req)
	}
}

func TestMACIsSetOnADriverThatMustBeDownForIt(t *testing.T) {
	t.Parallel()
	p := newPod(t, []string{"addr add 10.244.1.7/24 dev eth0", "route add default via 10.244.1.1"})
	before, steps := p.state(t), bridgeSteps(p.snapshot(t))
	p.busyWhileUp(t)
	p.do(t, steps...)
	p.wantTaken(t)
	p.undo(t, steps...)
	p.wantState(t, before)
}

// A run that was killed while the link was down for that.
func TestLinkThatWasLeftDownComesUpWithItsAddresses(t *testing.T) {
	t.Parallel()
	p := newPod(t, []string{"addr add 10.244.1.7/24 dev eth0", "route add default via 10.244.1.1"})
	before, step := p.state(t), takeStep(p.snapshot(t))
	p.do(t, step)
	p.Down(t, "eth0")
	p.undo(t, step)
	p.wantState(t, before)
}

func TestStepThatIsUnknownIsAnError(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	for _, err := range []error{p.k.Do(t.Context(), unknownStep{}), p.k.Undo(t.Context(), unknownStep{})} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("got %v", err)
		}
	}
}

// unknownStep is a step of a later version.
type unknownStep struct{ plan.Step }

func (unknownStep) Kind() string { return "unheard-of" }
