package follow

import (
	"strings"
	"testing"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// networkdConf has systemd-networkd do all that it is told, of both families.
const networkdConf = `[Match]
Name=nic0
[Network]
DHCP=yes
LinkLocalAddressing=ipv6
IPv6AcceptRA=yes
[DHCPv4]
UseMTU=yes
RapidCommit=no
`

// TestEachClientFollows: a guest has the pod's new addresses, of both families, and what it
// had no more, by what its client does at its next renewal, without anybody's help. A lease
// of 20 seconds is renewed after ten.
func TestEachClientFollows(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testWorld, *testing.T, *pod.Space){
		"dhclient": func(w *testWorld, t *testing.T, guest *pod.Space) {
			c, err := client.Dhclient(guest, w.Dir, "nic0", "", "")
			w.Wait(t, world.Running(t, c, err), "BOUND")
			w.LinkLocal(t, guest, "nic0")
			c, err = client.Dhclient6(guest, w.Dir, "nic0", "")
			w.Wait(t, world.Running(t, c, err), "BOUND6")
		},
		"systemd-networkd": func(w *testWorld, t *testing.T, guest *pod.Space) {
			stop, _, err := client.StartNetworkd(guest, networkdConf)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stop)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			world.OnEach(t, func(t *testing.T, b pod.Binding) {
				if b.Behind() || b != pod.Bridge && !world.Long() {
					return // the guest behind the pod keeps its own
				}
				w := newWorld(t, b)
				to := w.wire(t, "--lease-time", "20s")
				guest := w.NewGuest(t)
				if name == "systemd-networkd" {
					if err := guest.Sysctl("net/ipv6/conf/default/accept_ra", "0"); err != nil {
						t.Fatal(err)
					}
				}
				w.PlugInto(t, to, guest, "nic0")
				start(w, t, guest)
				has := func(addrs ...string) {
					t.Helper()
					w.Eventually(t, "has "+strings.Join(addrs, " and "), func() string {
						text := w.Output(t, guest, "ip address show dev nic0")
						for _, addr := range addrs {
							if missing := world.Without(text, " "+addr+"/"); missing != "" {
								return missing
							}
						}
						return ""
					})
				}
				old6 := world.Addr6(w.VM).String()
				has(w.VM.Addr.Addr().String(), old6)
				w.change(t, "address del "+w.VM.Addr.String()+" dev eth0", "address add "+movedTo.String()+" dev eth0",
					"address del "+old6+"/64 dev eth0", "address add "+movedTo6.String()+" dev eth0 nodad",
					"route replace default via "+w.VM.Gateway.String()+" dev eth0",
					"-6 route replace default via fd00:10:244:1::1 dev eth0")
				has(movedTo.Addr().String(), movedTo6.Addr().String())
				if text := w.Output(t, guest, "ip -4 address show dev nic0"); strings.Contains(text, w.VM.Addr.String()) {
					t.Errorf("the guest still has %s:\n%s", w.VM.Addr, text)
				}
				w.Reaches(t, guest, w.Reachable()...)
				w.Reaches(t, w.Other.Space, movedTo6.Addr())
			})
		})
	}
}
