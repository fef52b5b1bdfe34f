package cli

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/plan"
)

// vnetHeader precedes each frame of a tap that a hypervisor opens (struct
// virtio_net_hdr).
const vnetHeader = 10

// TestTheFirstFrameIsAnswered: a guest whose first frame is there in the moment
// in which its hypervisor opens the tap gets its answer. Each round is such a
// guest; between them the tap loses its carrier.
func TestTheFirstFrameIsAnswered(t *testing.T) {
	node, pod := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, pod, "eth0", node, "veth0")
	pod.Addr(t, "eth0", "10.244.1.7/24")
	pod.Route(t, "0.0.0.0/0", "10.244.1.1", "eth0")

	c := config.Default()
	c.NetNS, c.StateDir, c.ResolvConf = pod.Path, t.TempDir(), "/dev/null"
	a, err := NewAgent(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	network := NewInProcess(a)
	interfaces, err := network.Setup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		firstFrame(t, pod, interfaces[0].Interface)
	}
	if err := network.Teardown(t.Context()); err != nil {
		t.Error(err)
	}
}

func firstFrame(t *testing.T, pod *netnstest.NS, i plan.Interface) {
	t.Helper()
	msg, err := dhcpv4.NewDiscovery(i.MAC.HardwareAddr())
	if err != nil {
		t.Fatal(err)
	}
	request := frame.AppendUDP4(make([]byte, vnetHeader), frame.UDP4{
		SrcMAC: i.MAC, DstMAC: frame.Broadcast, Payload: msg.ToBytes(),
		Src: netip.MustParseAddrPort("0.0.0.0:68"), Dst: netip.MustParseAddrPort("255.255.255.255:67"),
	})
	var tap *os.File
	start := kernel.Uptime()
	pod.Do(t, func() {
		tap = openTap(t, i.Tap)
		if tap != nil {
			if _, err := tap.Write(request); err != nil {
				t.Errorf("sending the first frame: %v", err)
			}
		}
	})
	if tap == nil {
		t.FailNow()
	}
	defer tap.Close()
	if err := tap.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		n, err := tap.Read(buf)
		if err != nil {
			t.Fatalf("no answer to the first frame: %v", err)
		}
		u, err := frame.ParseUDP4(buf[vnetHeader:n])
		if err != nil {
			continue // the node's own frames
		}
		offer, err := dhcpv4.FromBytes(u.Payload)
		if err != nil || offer.TransactionID != msg.TransactionID || !offer.YourIPAddr.Equal(net.IPv4(10, 244, 1, 7)) {
			t.Fatalf("the answer is %v, %v", offer, err)
		}
		t.Logf("answered %s after the tap was opened", kernel.Uptime()-start)
		return
	}
}

// openTap is what a hypervisor does.
func openTap(t *testing.T, name string) *os.File {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Error(err)
		return nil
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		t.Errorf("opening %q: %v", name, err)
		_ = unix.Close(fd)
		return nil
	}
	return os.NewFile(uintptr(fd), name)
}
