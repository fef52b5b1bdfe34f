package client

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/podwire/podwire/tests/pod"
)

// networkdConf has systemd-networkd do all that DHCPv4 tells it, in four messages:
// newer ones ask for two (RFC 4039), which others here do not.
const networkdConf = `[Match]
Name=%s
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
[DHCPv4]
UseDomains=yes
UseMTU=yes
UseHostname=no
RoutesToDNS=no
RapidCommit=no
`

// networkd6Conf is the same for IPv6, with its DHCP begun by a router advertisement.
const networkd6Conf = `[Match]
Name=%s
[Network]
DHCP=%s
LinkLocalAddressing=ipv6
IPv6AcceptRA=yes
[DHCPv4]
UseDomains=yes
UseMTU=yes
UseHostname=no
RoutesToDNS=no
RapidCommit=no
[IPv6AcceptRA]
UseDomains=yes
[DHCPv6]
UseDomains=yes
UseHostname=no
RapidCommit=no
`

// networkdScript starts it as in a container, where it does not wait for udev: over
// a /sys that cannot be written, and said to be one. Its user must be able to read
// its settings.
const networkdScript = `mount -o remount,bind,ro /sys
mkdir -p /run/systemd
echo docker >/run/systemd/container
chmod 755 /run /run/systemd /run/systemd/network
exec /lib/systemd/systemd-networkd`

// Networkd runs systemd-networkd in a space until it has configured the link, and
// returns what it was told, by the names of its lease file, such as
// CLASSLESS_ROUTES. It takes messages as large as the link's MTU, and says so to
// the server (option 57).
func Networkd(ctx context.Context, space *pod.Space, link string) (map[string]string, error) {
	stop, err := networkd(ctx, space, link, fmt.Sprintf(networkdConf, link))
	if err != nil {
		return nil, err
	}
	defer stop()
	return networkdLease(ctx, space)
}

// networkd starts systemd-networkd with settings for one link and waits until it has
// configured that. The caller ends it.
func networkd(ctx context.Context, space *pod.Space, link, conf string) (stop func(), err error) {
	stop, log, err := StartNetworkd(space, conf)
	if err != nil {
		return nil, err
	}
	if err := online(ctx, space, link); err != nil {
		stop()
		return nil, fmt.Errorf("waiting for systemd-networkd: %w\n%s", err, log())
	}
	return stop, nil
}

// StartNetworkd starts systemd-networkd in a space, with the settings of a .network
// file. It returns what ends it, and what it has printed so far.
func StartNetworkd(space *pod.Space, conf string) (stop func(), log func() string, err error) {
	if err := space.WriteFile("/run/systemd/network/10-guest.network", []byte(conf), 0o644); err != nil {
		return nil, nil, err
	}
	var printed pod.Log
	cmd := exec.Command("sh", "-c", networkdScript)
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := space.Start(cmd); err != nil {
		return nil, nil, fmt.Errorf("starting systemd-networkd: %w", err)
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}, printed.String, nil
}

// networkdLease reads its lease of DHCPv4.
func networkdLease(ctx context.Context, space *pod.Space) (map[string]string, error) {
	out, err := space.Run(ctx, "sh", "-c", "cat /run/systemd/netif/leases/*")
	return assignments(out), err
}

// NetworkdState reads what it says of a link to systemd-resolved: DNS and DOMAINS, of
// both families.
func NetworkdState(ctx context.Context, space *pod.Space, link string) (map[string]string, error) {
	out, err := space.Run(ctx, "sh", "-c", `cat "/run/systemd/netif/links/$(cat /sys/class/net/`+link+`/ifindex)"`)
	return assignments(out), err
}

// assignments reads lines NAME=VALUE.
func assignments(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out[name] = value
		}
	}
	return out
}

// online waits until systemd-networkd has configured a link. Its own program for
// that can miss a change while both start, so it is asked anew every second.
func online(ctx context.Context, space *pod.Space, link string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		_, err := space.Run(ctx, "/lib/systemd/systemd-networkd-wait-online", "--interface="+link, "--timeout=1")
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

var networkdVersion = version(`systemd (\d+)`, func(Guest) ([]string, error) {
	return []string{"/lib/systemd/systemd-networkd", "--version"}, nil
})

var networkdDriver = Driver{
	Name: "systemd-networkd", IPv4: true, Version: networkdVersion,
	Run: func(ctx context.Context, g Guest) (Told, error) {
		stop, err := networkd(ctx, g.Space, g.Link, fmt.Sprintf(networkdConf, g.Link))
		if err != nil {
			return nil, err
		}
		defer stop()
		told, err := kernelTold(ctx, g.Space, g.Link, true)
		if err != nil {
			return nil, err
		}
		lease, err := networkdLease(ctx, g.Space)
		told[DNS] = names(lease["DNS"])
		told[Search] = names(lease["DOMAIN_SEARCH_LIST"])
		told[Hostname] = lease["HOSTNAME"]
		return told, err
	},
}

var networkd6Driver = Driver{
	Name: "systemd-networkd", Version: networkdVersion,
	Cannot: always(map[string]string{
		Hostname: "it gives a name of DHCPv6 to systemd-hostnamed alone, and writes it nowhere",
	}),
	Run: func(ctx context.Context, g Guest) (Told, error) {
		stop, err := networkd(ctx, g.Space, g.Link, fmt.Sprintf(networkd6Conf, g.Link, "ipv6"))
		if err != nil {
			return nil, err
		}
		defer stop()
		// A router advertisement alone is enough for it to be online.
		return poll(ctx, "systemd-networkd's address", func() (Told, bool, error) {
			told, err := kernelTold(ctx, g.Space, g.Link, false)
			if err != nil {
				return nil, false, err
			}
			state, err := NetworkdState(ctx, g.Space, g.Link)
			told[DNS] = ipv6s(state["DNS"])
			told[Search] = names(state["DOMAINS"])
			return told, told[Address] != "" && told[Default] != "", err
		})
	},
}
