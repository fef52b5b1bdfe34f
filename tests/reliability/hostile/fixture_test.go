package hostile

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
	"github.com/podwire/podwire/tests/world"
)

const topic = "hostile"

// What everybody on a link hears.
var (
	nobody4    = netip.MustParseAddrPort("0.0.0.0:68")
	everybody4 = netip.MustParseAddrPort("255.255.255.255:67")
	routers6   = netip.MustParseAddr("ff02::2")
	servers6   = netip.MustParseAddrPort("[ff02::1:2]:547")
	serverID   = netip.MustParseAddr("169.254.75.1")
	stranger   = net.HardwareAddr{2, 0xbe, 0xef, 0, 0, 1}
)

// hostile is a guest with a real client, and beside it somebody with a raw socket.
type hostile struct {
	*world.World
	mac    net.HardwareAddr
	own6   netip.Addr // the guest's link-local address
	router netip.Addr // its IPv6 router, which podwire answers for
	wire   *wire.Wire
	space  *pod.Space
	link   *wire.Socket
	client *client.Client
	server int             // its process
	asked  map[uint32]bool // transactions of ask
}

func newHostile(t *testing.T, b pod.Binding, args ...string) *hostile {
	t.Helper()
	h := &hostile{World: world.New(t, world.DualBridge, world.ResolvConf6, 8*time.Minute).With(b), asked: map[uint32]bool{}}
	wired := h.Prestart(t, args...)
	var err error
	if h.mac, err = net.ParseMAC(wired.MAC); err != nil {
		t.Fatal(err)
	}
	h.wire, h.space = h.Plug(t, wired)
	h.own6 = h.LinkLocal(t, h.space, "nic0")
	h.client, err = client.Udhcpc(h.space, h.Dir, "nic0")
	h.client = world.Running(t, h.client, err)
	h.Wait(t, h.client, "bound")
	if h.link, err = wire.OpenSocket(h.space, "nic0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.link.Close() })
	h.server = h.Status(t)[0].PID
	h.Eventually(t, "has an IPv6 router", func() string {
		route := strings.Fields(h.Output(t, h.space, "ip -6 route show default"))
		if len(route) < 3 {
			return "none yet"
		}
		h.router, err = netip.ParseAddr(route[2])
		return errorText(err)
	})
	return h
}

func errorText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// used is what the server has used of the machine so far.
type used struct {
	cpu      time.Duration
	rss, pss int // KiB
}

func (h *hostile) used(t *testing.T) (u used) {
	t.Helper()
	stat := h.proc(t, "stat")
	// Behind the name, which may have any character.
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	const utime, stime, tick = 11, 12, time.Second / 100 // USER_HZ
	for _, field := range []int{utime, stime} {
		n, err := strconv.Atoi(fields[field])
		if err != nil {
			t.Fatal(err)
		}
		u.cpu += time.Duration(n) * tick
	}
	for line := range strings.Lines(h.proc(t, "smaps_rollup")) {
		_, _ = fmt.Sscanf(line, "Rss: %d kB", &u.rss)
		_, _ = fmt.Sscanf(line, "Pss: %d kB", &u.pss)
	}
	if u.rss == 0 || u.pss == 0 {
		t.Fatal("the kernel does not say how much memory the server has")
	}
	return u
}

func (h *hostile) proc(t *testing.T, file string) string {
	t.Helper()
	text, err := h.VM.ReadFile(fmt.Sprintf("/proc/%d/%s", h.server, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
