package local

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/podwire/podwire/tests/guest"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// The network that a macvtap leads to, of a pod and of its neighbour there.
var (
	tapped, tapped6       = netip.MustParsePrefix("192.168.77.2/24"), netip.MustParsePrefix("fd00:77::2/64")
	neighbour, neighbour6 = netip.MustParsePrefix("192.168.77.1/24"), netip.MustParsePrefix("fd00:77::1/64")
)

// macvtaps counts those that were made.
var macvtaps atomic.Int32

// attachMacvtap gives the VM's pod a net1 that is a macvtap, as the CNI plugin macvtap
// does: made on a link of the node's, and moved. The other end of that link is the other
// pod's net1.
func (w *testWorld) attachMacvtap(t *testing.T) {
	t.Helper()
	// The file by which a macvtap is opened is named for its index, in the one /dev of
	// all namespaces.
	index := 1<<20 + 10*os.Getpid() + int(macvtaps.Add(1))
	err := errors.Join(
		w.Node.Veth(w.Ctx, "up0", w.Other.Space, "net1"),
		w.Node.IP(w.Ctx, "link set up0 mtu %d up", world.PodMTU),
		w.Other.IP(w.Ctx, "link set net1 mtu %d up", world.PodMTU),
		w.Other.IP(w.Ctx, "address add %s dev net1", neighbour),
		w.Other.IP(w.Ctx, "address add %s dev net1 nodad", neighbour6),
		w.Node.IP(w.Ctx, "link add link up0 name mv0 index %d address 0a:58:c0:a8:4d:02 type macvtap mode bridge", index),
		w.give(w.Node.Space, "mv0", w.VM.Space),
	)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		w.VM.IP(w.Ctx, "link set mv0 name net1 up"),
		w.VM.IP(w.Ctx, "address add %s dev net1", tapped),
		w.VM.IP(w.Ctx, "address add %s dev net1 nodad", tapped6),
	)
	if err != nil {
		t.Fatal(err)
	}
	w.LinkLocal(t, w.VM.Space, "net1") // at rest
}

// give moves a link from one space to another.
func (w *testWorld) give(from *pod.Space, link string, to *pod.Space) error {
	netns, err := os.Open(to.NetNS())
	if err != nil {
		return err
	}
	defer netns.Close()
	cmd := exec.CommandContext(w.Ctx, "ip", "link", "set", link, "netns", "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{netns}
	_, err = from.RunCmd(cmd)
	return err
}

// TestGuestHasTheMacvtap has a guest with two cards, one of them on a macvtap, which is
// handed over as it is: what podwire says of it the guest hears, and nobody else.
func TestGuestHasTheMacvtap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "bridge", manyTime)
	w.attachMacvtap(t)
	heard := world.Daemon(t, w.Other.Space, "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--user=root", "--conf-file=/dev/null",
		"--port=0", "--no-ping", "--leasefile-ro", "--dhcp-authoritative", "--interface=net1", "--dhcp-range=192.168.77.100,192.168.77.200")
	const queues = 2
	m := w.bootDomain(t, guest.Domain{VCPUs: queues, Ask: []string{"podwire.listen=80"}},
		"--all", "--queues", strconv.Itoa(queues))

	for kind, want := range map[string]string{"lease": tapped.Addr().String(), "lease6": tapped6.Addr().String()} {
		match, err := m.WaitFor(w.Ctx, fmt.Sprintf("^%s%s event=bound nic=eth1 .*", guest.Prefix, kind))
		if err != nil {
			t.Fatal(err)
		}
		if got := guest.ParseLease(match[0])["ip"]; got != want {
			t.Errorf("%s of eth1 is of %s, want %s", kind, got, want)
		}
	}
	if got, err := m.Queues(w.Ctx, "eth1"); got != queues || err != nil {
		t.Errorf("the guest uses %d queues of the macvtap, %v; want %d", got, err, queues)
	}
	w.wantEcho(t, m, w.echoes(t, w.Other.Space, neighbour.Addr()))
	w.wantEcho(t, m, w.echoes(t, w.Other.Space, neighbour6.Addr()))
	for _, own := range []netip.Prefix{tapped, tapped6} {
		w.wantPages(t, w.Other.Space, own.Addr())
	}
	w.run(t, m, "try-ping "+w.Other.Addr.Addr().String()) // by its other card
	if log := heard(); !strings.Contains(log, "IP range 192.168.77.100") || strings.Contains(log, "DHCPDISCOVER") || strings.Contains(log, "DHCPREQUEST") {
		t.Errorf("a DHCP server on the macvtap's network does not run, or heard the guest:\n%s", log)
	}
	w.terminate(t, m)
	// libvirt leaves what it opens without a queueing discipline.
	w.Output(t, w.VM.Space, "tc qdisc del dev net1 root")
}
