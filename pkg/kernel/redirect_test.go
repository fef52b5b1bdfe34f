//go:build linux

package kernel

import (
	"bytes"
	"testing"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// tcSteps are what the tc binding does to eth0.
func tcSteps(s netstate.Snapshot) plan.Steps {
	link, _ := s.LinkByName("eth0")
	return plan.Steps{
		plan.CreateTap{Name: "tap-eth0", MAC: tapMAC, MTU: link.MTU, Queues: 1, Up: true},
		plan.AddFilter{Link: "tap-eth0", Name: "guest", Drop: podMatches, Ahead: true},
		plan.Redirect{Link: "tap-eth0", Name: "redirect", To: "eth0"},
		plan.AddFilter{Link: "eth0", Name: "pod", Drop: podMatches, Ahead: true, TxQLen: &link.TxQLen},
		plan.Redirect{Link: "eth0", Index: link.Index, Name: "redirect", To: "tap-eth0", TxQLen: &link.TxQLen},
	}
}

// redirected is a pod whose guest is joined to its network by redirects.
type redirected struct {
	*pod
	steps      plan.Steps
	guest, far *end
}

func newRedirected(t *testing.T, shape ...string) *redirected {
	t.Helper()
	r := &redirected{pod: newPod(t, shape)}
	r.steps = tcSteps(r.snapshot(t))
	r.do(t, r.steps...)
	r.guest, r.far = tapEnd(r.pod.guest(t, "tap-eth0")), packetEnd(t, r.node, "veth0")
	r.joined(t)
	return r
}

// joined waits until frames cross both ways: the tap has its carrier a moment after
// it was opened.
func (r *redirected) joined(t *testing.T) {
	t.Helper()
	until(t, "the guest to be joined to the network", func() bool {
		return crosses(t, r.far, r.guest, marker(0)) && crosses(t, r.guest, r.far, marker(0))
	})
}

func TestRedirectJoinsTheGuestToThePodsNetwork(t *testing.T) {
	t.Parallel()
	r := newRedirected(t, "addr add 10.244.1.7/24 dev eth0")
	for name, way := range map[string][2]*end{"out": {r.guest, r.far}, "in": {r.far, r.guest}} {
		for _, c := range frames {
			if c.malformed {
				continue
			}
			if crossed := crosses(t, way[0], way[1], c.frame); crossed == c.match {
				t.Errorf("%s: %s: crossed is %v", name, c.name, crossed)
			}
		}
	}
	for _, question := range [][]byte{ether(0x0806, arp(1, gatewayIP, podIP)), ether(0x0806, arp(1, podIP, podIP))} {
		if r.far.send(t, question); r.guest.next(t, func(b []byte) bool { return bytes.Equal(b, question) }) == nil {
			t.Error("the guest does not hear what is asked of the pod")
		}
	}
	if got := crosses(t, r.guest, r.guest, marker(7)); got {
		t.Error("what the guest sends comes back to it")
	}
}

// The pod itself hears nothing any more, and answers nothing.
func TestRedirectLeavesThePodDeaf(t *testing.T) {
	t.Parallel()
	p := newPod(t, []string{"addr add 10.244.1.7/24 dev eth0"})
	far := packetEnd(t, p.node, "veth0")
	question := ether(0x0806, arp(1, gatewayIP, podIP))
	answered := func() bool {
		far.send(t, question)
		far.send(t, marker(9))
		return far.next(t, func(b []byte) bool { return b[12] == 8 && b[13] == 6 && b[21] == 2 }) != nil
	}
	if !answered() {
		t.Fatal("the pod does not answer before")
	}
	steps := tcSteps(p.snapshot(t))
	p.do(t, steps...)
	if answered() {
		t.Error("the pod answers although its frames are the guest's")
	}
	p.undo(t, steps...)
	if !answered() {
		t.Error("the pod does not answer afterwards")
	}
}

func TestTapSocketHearsWhatIsFilteredAheadOfARedirect(t *testing.T) {
	t.Parallel()
	r := newRedirected(t)
	tap, err := r.k.OpenTap("tap-eth0", podMatches)
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	server := &served{pod: r.pod, tap: tap}
	for _, c := range frames {
		if !c.match || c.malformed {
			continue
		}
		if crosses(t, r.guest, r.far, c.frame) {
			t.Errorf("%s: leaves the pod", c.name)
		}
		if got := server.read(t); !bytes.Equal(got, heard(c.frame)) {
			t.Errorf("%s: heard %x", c.name, got)
		}
	}
	answer := ether(0x0800, udp(67, 68, 0, 0))
	if _, err := tap.Write(answer); err != nil {
		t.Fatal(err)
	}
	if r.guest.next(t, func(b []byte) bool { return bytes.Equal(b, answer) }) == nil {
		t.Error("the guest does not hear the answer")
	}
}

func TestSegmentsAndUnfinishedChecksumsCrossWhole(t *testing.T) {
	t.Parallel()
	r := newRedirected(t)
	const size = 30000
	for name, way := range map[string][2]*end{"out": {r.guest, r.far}, "in": {r.far, r.guest}} {
		if name == "in" {
			r.guest.offload(t)
		}
		header, segment := bigSegment(size)
		way[0].sendWith(t, header, segment)
		got := way[1].nextWith(t, isTCP)
		if got == nil {
			t.Fatalf("%s: nothing came", name)
		}
		if len(got.frame) != len(segment) || got.header.gsoType != header.gsoType || got.header.gsoSize != header.gsoSize {
			t.Errorf("%s: came as %d octets, %+v", name, len(got.frame), got.header)
		}
		if data := got.payload(t); !bytes.Equal(data, segment[tcpEnd:]) {
			t.Errorf("%s: %d octets that are others", name, len(data))
		}
	}
}

// A guest whose driver can take no large segments gets small ones.
func TestLargeSegmentIsCutForAGuestThatTakesNone(t *testing.T) {
	t.Parallel()
	r := newRedirected(t)
	header, segment := bigSegment(30000)
	r.far.sendWith(t, header, segment)
	var data []byte
	for len(data) < 30000 {
		got := r.guest.nextWith(t, isTCP)
		if got == nil {
			t.Fatalf("%d octets came", len(data))
		}
		if len(got.frame) > 1450+etherEnd || got.header != (vnetHeader{}) {
			t.Fatalf("a segment of %d octets, %+v", len(got.frame), got.header)
		}
		data = append(data, got.payload(t)...)
	}
	if !bytes.Equal(data, segment[tcpEnd:]) {
		t.Error("other data came")
	}
}

// Frames are handed over in the order in which filters have their places: what
// another program takes for itself before podwire's it keeps.
func TestEarlierFilterOfAnotherIsAskedFirst(t *testing.T) {
	t.Parallel()
	r := newRedirected(t)
	netnstest.Veth(t, r.NS, "out0", r.node, "far0")
	r.Run(t, "tc", "filter", "add", "dev", "eth0", "ingress", "prio", "1", "protocol", "0x88b5", "u32", "match", "u32", "0", "0",
		"action", "mirred", "egress", "redirect", "dev", "out0")
	r.do(t, r.steps...)
	far0 := packetEnd(t, r.node, "far0")
	until(t, "the other program to get its frames", func() bool { return crosses(t, r.far, far0, marker(3)) })
	request := ether(0x0800, udp(5353, 53, 0, 0))
	r.far.send(t, request)
	if r.guest.next(t, func(b []byte) bool { return bytes.Equal(b, request) }) == nil {
		t.Error("the rest does not come to the guest")
	}
}
