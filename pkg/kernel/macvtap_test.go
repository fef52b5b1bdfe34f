//go:build linux

package kernel

import (
	"bytes"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// What a guest on a macvtap is answered, and what of the network it is not to hear.
var (
	answered = []plan.Match{{Kind: plan.MatchDHCPClient}, {Kind: plan.MatchARPWhoHas, Addr: gatewayIP}, {Kind: plan.MatchRS}}
	foreign  = []plan.Match{{Kind: plan.MatchDHCPServer}, {Kind: plan.MatchRA}}
)

// macvtapSteps are what the macvtap binding does to net1.
func macvtapSteps(s netstate.Snapshot) plan.Steps {
	link, _ := s.LinkByName("net1")
	own := plan.Match{Kind: plan.MatchFrom, MAC: serverMAC}
	return plan.Steps{
		plan.AddFilter{
			Link: "net1", Name: "pod", Pass: []plan.Match{own}, Drop: append(foreign[:2:2], answered...),
			Ahead: true, TxQLen: &link.TxQLen,
		},
		plan.Redirect{
			Link: "net1", Index: link.Index, Name: "answered", Egress: true, Match: append(answered[:3:3], own),
			To: "net1", Receive: true, TxQLen: &link.TxQLen,
		},
	}
}

// macvtapped is a pod with a macvtap on a link of the node's, and its guest.
type macvtapped struct {
	*pod
	steps      plan.Steps
	guest, far *end
}

func newMacvtapped(t *testing.T, mode string) *macvtapped {
	t.Helper()
	p := newPod(t, nil)
	p.node.IP(t, "link set veth0 mtu 1450")
	p.IP(t, fmt.Sprintf("link add link eth0 name net1 address %s txqueuelen 77 type macvtap mode %s", guestMAC, mode), "link set net1 up")
	p.settle(t)
	m := &macvtapped{pod: p, guest: macvtapEnd(t, p, "net1"), far: packetEnd(t, p.node, "veth0")}
	// What has the guest's own source came back to it, and is not heard.
	m.far.source = netstate.MAC{0x02, 0, 0, 0, 0, 0x99}
	m.steps = macvtapSteps(p.snapshot(t))
	until(t, "the guest to be joined to the network", func() bool {
		return crosses(t, m.far, m.guest, marker(0)) && crosses(t, m.guest, m.far, marker(0))
	})
	return m
}

// macvtapEnd opens the macvtap's device as a hypervisor does. It is in no directory
// of this namespace's, so that one is made for it.
func macvtapEnd(t *testing.T, p *pod, link string) *end {
	t.Helper()
	number := p.Run(t, "unshare", "-m", "sh", "-c", "mount -t sysfs sysfs /sys && cat /sys/class/net/"+link+"/tap*/dev")
	var major, minor uint32
	if _, err := fmt.Sscanf(number, "%d:%d", &major, &minor); err != nil {
		t.Fatalf("device %q: %v", number, err)
	}
	path := filepath.Join(t.TempDir(), "tap")
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor))); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return tapEnd(fd)
}

var macvtapModes = []string{"bridge", "vepa", "private", "passthru"}

func TestMacvtapGuestIsAnsweredAndNothingLeaks(t *testing.T) {
	t.Parallel()
	for _, mode := range macvtapModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			m := newMacvtapped(t, mode)
			m.do(t, m.steps...)
			socket, err := m.k.OpenLink("net1", answered)
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			server := &served{pod: m.pod, tap: socket}
			answers := [][]byte{
				sourced(ether(0x0800, udp(67, 68, 0, 0)), serverMAC),
				sourced(ether(0x0806, arp(2, gatewayIP, podIP)), serverMAC),
				sourced(ether(0x86dd, icmp6(134, gatewayIP6, make([]byte, 8)...)), serverMAC),
			}
			for i, question := range [][]byte{
				ether(0x0800, udp(68, 67, 0, 0)),
				ether(0x0806, arp(1, podIP, gatewayIP)),
				ether(0x86dd, icmp6(133, podIP6)),
			} {
				if crosses(t, m.guest, m.far, question) {
					t.Errorf("question %d leaves the pod", i)
				}
				if got := server.read(t); !bytes.Equal(got, question) {
					t.Errorf("question %d was heard as %x", i, got)
				}
				if _, err := socket.Write(answers[i]); err != nil {
					t.Fatal(err)
				}
				if m.guest.next(t, func(b []byte) bool { return bytes.Equal(b, answers[i]) }) == nil {
					t.Errorf("answer %d did not come to the guest", i)
				}
			}
			m.far.send(t, marker(9))
			if got := m.guest.next(t, func([]byte) bool { return true }); !bytes.Equal(got, m.far.own(marker(9))) {
				t.Errorf("the guest heard %x besides", got)
			}
			m.guest.send(t, marker(8))
			isServers := func(b []byte) bool {
				return bytes.Equal(b[offSource:offEtherType], serverMAC[:]) || bytes.Equal(b, marker(8))
			}
			if got := m.far.next(t, isServers); !bytes.Equal(got, marker(8)) {
				t.Errorf("of the answers the network heard %x", got)
			}
		})
	}
}

func TestMacvtapGuestHearsTheNetworkButForForeignAnswers(t *testing.T) {
	t.Parallel()
	for _, mode := range macvtapModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			m := newMacvtapped(t, mode)
			m.do(t, m.steps...)
			for _, c := range []struct {
				name   string
				frame  []byte
				passes bool
			}{
				{"DHCP answer", ether(0x0800, udp(67, 68, 0, 0)), false},
				{"router advertisement", ether(0x86dd, icmp6(134, gatewayIP6, make([]byte, 8)...)), false},
				{"DNS", ether(0x0800, udp(53, 5353, 0, 0)), true},
				{"who has the pod", ether(0x0806, arp(1, gatewayIP, podIP)), true},
				{"echo request", ether(0x86dd, icmp6(128, otherIP6)), true},
				{"DHCP answer of a VLAN", vlan(ether(0x0800, udp(67, 68, 0, 0))), true},
			} {
				if got := crosses(t, m.far, m.guest, c.frame); got != c.passes {
					t.Errorf("%s: came to the guest: %v", c.name, got)
				}
			}
			for name, frame := range map[string][]byte{
				"DNS":                   ether(0x0800, udp(5353, 53, 0, 0)),
				"who has another":       ether(0x0806, arp(1, podIP, netip.MustParseAddr("10.244.1.9"))),
				"echo request":          ether(0x86dd, icmp6(128, podIP6)),
				"DHCP request, tagged":  vlan(ether(0x0800, udp(68, 67, 0, 0))),
				"neighbor solicitation": ether(0x86dd, solicit(podIP6, gatewayIP6)),
			} {
				if !crosses(t, m.guest, m.far, frame) {
					t.Errorf("%s of the guest's does not leave the pod", name)
				}
			}
		})
	}
}

func TestMacvtapSegmentsCrossWhole(t *testing.T) {
	t.Parallel()
	m := newMacvtapped(t, "bridge")
	m.do(t, m.steps...)
	m.guest.offload(t)
	for name, way := range map[string][2]*end{"out": {m.guest, m.far}, "in": {m.far, m.guest}} {
		header, segment := bigSegment(30000)
		way[0].sendWith(t, header, segment)
		got := way[1].nextWith(t, isTCP)
		if got == nil || len(got.frame) != len(segment) || !bytes.Equal(got.payload(t), segment[tcpEnd:]) {
			t.Errorf("%s: came as %+v", name, got)
		}
	}
}

// A guest's driver leaves the checksum of what it asks unfinished, too.
func TestMacvtapServerHearsUnfinishedFrames(t *testing.T) {
	t.Parallel()
	m := newMacvtapped(t, "bridge")
	m.do(t, m.steps...)
	socket, err := m.k.OpenLink("net1", answered)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	request := ether(0x0800, udp(68, 67, 0, 0))
	m.guest.sendWith(t, vnetHeader{flags: 1, csumStart: tcpStart, csumOffs: 6}, request)
	if got := (&served{pod: m.pod, tap: socket}).read(t); !bytes.Equal(got[:40], request[:40]) {
		t.Errorf("heard %x", got)
	}
}

func TestMacvtapBindingIsDoneOnceAndTakenBackWhole(t *testing.T) {
	t.Parallel()
	m := newMacvtapped(t, "bridge")
	before := m.state(t)
	m.do(t, m.steps...)
	index := m.Index(t, "net1")
	compareFilters(t, []netstate.Filter{{Link: index, Name: "answered", To: index}, {Link: index, Name: "pod"}}, m.snapshot(t).Filters)
	if n := m.changes(func() { m.do(t, m.steps...) }); n != 0 {
		t.Errorf("doing it again asks for %d changes", n)
	}
	m.undo(t, m.steps...)
	m.undo(t, m.steps...)
	m.wantState(t, before)
	if !crosses(t, m.guest, m.far, ether(0x0800, udp(68, 67, 0, 0))) {
		t.Error("what the guest asks does not leave the pod afterwards")
	}
}

// A hook is not there any more once the link is another program's again.
func TestMacvtapHookGoesOnlyWithTheLastFilter(t *testing.T) {
	t.Parallel()
	m := newMacvtapped(t, "bridge")
	m.do(t, m.steps...)
	for _, left := range []struct {
		undone plan.Step
		hook   bool
	}{{m.steps[1], true}, {m.steps[0], false}} {
		m.undo(t, left.undone)
		if got := strings.Contains(m.Run(t, "tc", "qdisc", "show", "dev", "net1"), "clsact"); got != left.hook {
			t.Errorf("after undoing %s the hook is there: %v", left.undone.Kind(), got)
		}
	}
}
