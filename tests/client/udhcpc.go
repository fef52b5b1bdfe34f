package client

import (
	"context"
	"net/netip"
	"os/exec"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/pod"
)

// Udhcpc6 starts busybox's DHCPv6 client on a link of a space that has a link-local
// address.
func Udhcpc6(space *pod.Space, dir checkout.Dir, link string, args ...string) (*Client, error) {
	path, err := dir.Unpacked("bin/udhcpc6")
	if err != nil {
		return nil, err
	}
	at := "/run/udhcpc6-" + link
	return start(space, at, exec.Command(path, append([]string{
		"-f", "-i", link, "-s", at + "/script", "-t", "5", "-T", "1", "-A", "1",
		"-O", "dns", "-O", "search", "-O", "fqdn", "-x", "fqdn:asked",
	}, args...)...))
}

var udhcpcDriver = Driver{
	Name: "udhcpc", IPv4: true,
	Version: version(`BusyBox (v\S+)`, func(g Guest) ([]string, error) {
		path, err := g.Dir.Busybox()
		return []string{path}, err
	}),
	Run: func(ctx context.Context, g Guest) (Told, error) {
		c, err := Udhcpc(g.Space, g.Dir, g.Link)
		if err != nil {
			return nil, err
		}
		defer c.Stop()
		event, err := c.Wait(ctx, "bound")
		if err != nil {
			return nil, err
		}
		env := event.Told
		told := Told{
			Address: env["ip"], Prefix: onLink(env["ip"], env["mask"]), DNS: names(env["dns"]),
			Search: names(env["search"]), MTU: env["mtu"], Hostname: env["hostname"],
		}
		told.pairs(env["staticroutes"])
		return told, nil
	},
}

var udhcpc6Driver = Driver{
	Name: "udhcpc6", Kernel: true,
	Cannot: always(map[string]string{
		MTU:    "DHCPv6 has no MTU: the kernel takes it from router advertisements",
		Prefix: routesByRA, Default: routesByRA, Routes: routesByRA,
	}),
	Version: version(`BusyBox (v\S+)`, func(g Guest) ([]string, error) {
		path, err := g.Dir.Unpacked("bin/udhcpc6")
		return []string{path, "--help"}, err
	}),
	Run: func(ctx context.Context, g Guest) (Told, error) {
		if err := linkLocal(ctx, g); err != nil {
			return nil, err
		}
		c, err := Udhcpc6(g.Space, g.Dir, g.Link)
		if err != nil {
			return nil, err
		}
		defer c.Stop()
		event, err := c.Wait(ctx, "bound")
		if err != nil {
			return nil, err
		}
		env := event.Told
		addr, err := netip.ParseAddr(env["ipv6"]) // with all its zeros
		if err != nil {
			return nil, err
		}
		return Told{
			Address: addr.String(), DNS: ipv6s(env["dns"]), Search: names(env["search"]), Hostname: names(env["fqdn"]),
		}, nil
	},
}
