package clients

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
)

// TestEveryClientIsTold runs each client in a pod of its own family, with each binding.
func TestEveryClientIsTold(t *testing.T) {
	var rows table
	t.Run("clients", func(t *testing.T) {
		for _, b := range pod.Bindings {
			for _, each := range client.Drivers() {
				t.Run(each.Name+"-"+family(each.IPv4)+"/"+string(b), func(t *testing.T) {
					t.Parallel()
					run := &row{Client: each.Name, Family: family(each.IPv4), Binding: b}
					rows.add(run)
					runClient(t, run, each)
				})
			}
			for _, ipv4 := range []bool{true, false} {
				t.Run("iPXE-"+family(ipv4)+"/"+string(b), func(t *testing.T) {
					t.Parallel()
					run := &row{Client: "iPXE", Family: family(ipv4), Binding: b}
					rows.add(run)
					runIPXE(t, run, ipv4)
				})
			}
		}
	})
	rows.report(t)
}

// runClient fills a client's row.
func runClient(t *testing.T, run *row, driver client.Driver) {
	t.Helper()
	w := newWorld(t, time.Minute, run.Binding, driver.IPv4, !driver.IPv4)
	want := w.told(t, driver.IPv4)
	_, guest := w.plug(t, w.prestart(t), driver.Prepare)
	var err error
	if run.Version, err = driver.Version(w.ctx, guest); err != nil {
		t.Error(err)
	}
	told, err := driver.Run(w.ctx, guest)
	run.compare(t, driver.Lacks(run.Version), want, told, err)
}

// runIPXE fills iPXE's row.
func runIPXE(t *testing.T, run *row, ipv4 bool) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		run.none("QEMU's boot ROM for this architecture needs UEFI, which is not installed")
		return
	}
	// Of IPv4 alone iPXE is not content before it has waited for a router for
	// fifteen seconds.
	w := newWorld(t, time.Minute, run.Binding, ipv4, true)
	want := w.told(t, ipv4)
	w.serveBootFile(t)
	to := w.prestart(t, "--tftp-server", w.other.Addr.Addr().String(), "--boot-file", "boot.ipxe")
	told, version, err := client.IPXE(w.ctx, w.vm.Space, to.Tap, to.MAC, ipv4)
	run.Version = version
	run.compare(t, client.IPXECannot(ipv4), want, told, err)
}

func family(ipv4 bool) string {
	if ipv4 {
		return "IPv4"
	}
	return "IPv6"
}

// told is what the guest must be told. Its IPv6 gateways are global addresses in the
// pod, for which the guest has link-local ones made of their MACs. A guest behind the pod
// leaves all further routes to that.
func (w *world) told(t *testing.T, ipv4 bool) client.Told {
	t.Helper()
	told, own, gateway := maps.Clone(told4), netip.PrefixFrom(subnet4.Addr().Next().Next(), subnet4.Bits()), subnet4.Addr().Next()
	if !ipv4 {
		told, own = maps.Clone(told6), netip.PrefixFrom(subnet6.Addr().Next().Next(), subnet6.Bits())
		gateway = w.linkLocal(t, w.node.Space, "cni0")
		told[client.Routes] = "2001:db8:2::/48 via " + w.linkLocal(t, w.other.Space, "eth0").String()
	}
	its := w.binding.Guest(own)
	told[client.Address], told[client.Prefix] = its.Addr().String(), its.Masked().String()
	if gateway = w.binding.Gateway(gateway); !ipv4 {
		gateway, _ = w.binding.Router(gateway, "")
	}
	told[client.Default] = gateway.String()
	if w.binding.Behind() {
		delete(told, client.Routes)
	}
	return told
}

// linkLocal is the link-local address of a link's MAC (RFC 4291, appendix A).
func (w *world) linkLocal(t *testing.T, space *pod.Space, link string) netip.Addr {
	t.Helper()
	text, err := space.ReadFile("/sys/class/net/" + link + "/address")
	if err != nil {
		t.Fatal(err)
	}
	mac, err := net.ParseMAC(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrFrom16([16]byte{
		0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}

// TestLinkIsUsableAfterOneOfEach has guests of both families: they have both default
// routes and all nameservers after one DISCOVER, one SOLICIT and at most one RS.
//
// A guest that leaves router advertisements to the kernel has them within two seconds
// of link-up: podwire's routers speak as soon as it probes for its own address, before
// it may ask. systemd-networkd hears nothing until that address is its own, one to two
// seconds after link-up (RFC 4862 §5.4.2), and may then wait for another before it asks
// (RFC 4861 §6.3.7): it has them within two seconds of its question.
func TestLinkIsUsableAfterOneOfEach(t *testing.T) {
	for _, b := range pod.Bindings {
		for _, each := range client.Duals() {
			t.Run(each.Name+"/"+string(b), func(t *testing.T) { usableAfterOneOfEach(t, b, each) })
		}
	}
}

func usableAfterOneOfEach(t *testing.T, b pod.Binding, each client.Dual) {
	t.Helper()
	w := newWorld(t, time.Minute, b, true, true)
	tap, guest := w.plug(t, w.prestart(t), each.Prepare)
	usable, err := each.Use(w.ctx, guest)
	if err != nil {
		t.Fatal(err)
	}
	sent := tap.Sent()
	if sent["DISCOVER"] != 1 || sent["SOLICIT"] != 1 || sent["RS"] > 1 {
		t.Errorf("the guest sent %v", sent)
	}
	after := usable.Sub(tap.Up())
	t.Logf("usable %s after link-up%s", after.Round(time.Millisecond), times(tap))
	var asked time.Duration
	if !each.Kernel {
		asked, _ = tap.First("RS")
	}
	if after-asked > 2*time.Second {
		t.Errorf("usable %s after link-up%s", after, times(tap))
	}
}

// times says when the first of each message crossed the tap.
func times(tap *wire.Wire) string {
	var out strings.Builder
	for _, kind := range []string{"DISCOVER", "ACK", "NS", "RS", "RA", "SOLICIT", "REPLY"} {
		if at, ok := tap.First(kind); ok {
			fmt.Fprintf(&out, ", %s after %s", kind, at.Round(time.Millisecond))
		}
	}
	return out.String()
}
