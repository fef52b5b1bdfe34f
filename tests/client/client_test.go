package client_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
)

const mac = "0a:58:0a:f4:01:02"

// newGuest makes a guest on the network of a server.
func newGuest(t *testing.T, d client.Driver) (context.Context, client.Guest) {
	t.Helper()
	ctx, dir, node := pod.NewTestNode(t, time.Minute)
	server := node.Space
	newServer(ctx, t, server)
	guest, err := pod.NewSpace("guest", dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guest.Close() })
	if err := d.Prepare(guest); err != nil {
		t.Fatal(err)
	}
	tap, err := wire.Connect(ctx, server, "tap0", guest, "nic0", mac, 1500)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tap.Close() })
	return ctx, client.Guest{Space: guest, Dir: dir, Link: "nic0"}
}

// newServer runs dnsmasq in a space, behind a tap.
func newServer(ctx context.Context, t *testing.T, server *pod.Space) {
	t.Helper()
	for _, each := range []string{
		"tuntap add tap0 mode tap",
		"link set tap0 address 02:00:00:00:00:01 mtu 1450 up",
		"address add 10.244.1.1/24 dev tap0",
		"address add fd00:244:1::1/64 dev tap0 nodad",
	} {
		if err := server.IP(ctx, "%s", each); err != nil {
			t.Fatal(err)
		}
	}
	var log pod.Log
	cmd := exec.Command("dnsmasq", "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--user=root", "--conf-file=/dev/null",
		"--port=0", "--no-ping", "--leasefile-ro", "--dhcp-authoritative", "--interface=tap0",
		"--dhcp-range=10.244.1.2,10.244.1.2", "--dhcp-host="+mac+",vm-0",
		"--dhcp-option=option:router,10.244.1.1", "--dhcp-option=option:mtu,1450",
		"--dhcp-option=option:dns-server,10.96.0.10",
		"--dhcp-option=option:domain-search,default.svc.cluster.local,svc.cluster.local",
		"--dhcp-option=option:classless-static-route,192.0.2.0/24,10.244.1.3,0.0.0.0/0,10.244.1.1",
		"--enable-ra", "--ra-param=tap0,mtu:1450,60", "--dhcp-range=fd00:244:1::2,fd00:244:1::2,64", "--dhcp-host=id:*,vm-0",
		"--dhcp-option=option6:dns-server,[fd00:96::a]",
		"--dhcp-option=option6:domain-search,default.svc.cluster.local,svc.cluster.local",
	)
	cmd.Stderr = &log
	if err := server.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Log(log.String())
		}
	})
}

// told is what dnsmasq says. It has no route information (RFC 4191) to give.
func told(ipv4 bool) client.Told {
	told := client.Told{
		client.Search: "default.svc.cluster.local svc.cluster.local", client.MTU: "1450", client.Hostname: "vm-0",
	}
	if ipv4 {
		told[client.Address], told[client.Prefix] = "10.244.1.2", "10.244.1.0/24"
		told[client.Default], told[client.Routes] = "10.244.1.1", "192.0.2.0/24 via 10.244.1.3"
		told[client.DNS] = "10.96.0.10"
	} else {
		told[client.Address], told[client.Prefix] = "fd00:244:1::2", "fd00:244:1::/64"
		told[client.Default], told[client.DNS] = "fe80::ff:fe00:1", "fd00:96::a"
	}
	return told
}

// TestDriversReportWhatAnotherServerSays makes sure of the witnesses: what they report
// of podwire is podwire's, if they are right about dnsmasq.
func TestDriversReportWhatAnotherServerSays(t *testing.T) {
	for _, each := range client.Drivers() {
		family := "IPv6"
		if each.IPv4 {
			family = "IPv4"
		}
		t.Run(each.Name+"-"+family, func(t *testing.T) {
			t.Parallel()
			ctx, g := newGuest(t, each)
			version, err := each.Version(ctx, g)
			if err != nil {
				t.Error(err)
			}
			got, err := each.Run(ctx, g)
			if err != nil {
				t.Fatal(err)
			}
			want, lacks := told(each.IPv4), each.Lacks(version)
			for _, column := range client.Columns {
				if _, ok := lacks[column]; !ok && got[column] != want[column] {
					t.Errorf("%s is %q, want %q", column, got[column], want[column])
				}
			}
		})
	}
}
