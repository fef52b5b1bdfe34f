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
	if err := space.WriteFile("/run/systemd/network/10-guest.network", fmt.Appendf(nil, networkdConf, link), 0o644); err != nil {
		return nil, err
	}
	var log pod.Log
	cmd := exec.Command("sh", "-c", networkdScript)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := space.Start(cmd); err != nil {
		return nil, fmt.Errorf("starting systemd-networkd: %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}()
	if err := online(ctx, space, link); err != nil {
		return nil, fmt.Errorf("waiting for systemd-networkd: %w\n%s", err, log.String())
	}
	out, err := space.Run(ctx, "sh", "-c", "cat /run/systemd/netif/leases/*")
	if err != nil {
		return nil, err
	}
	told := map[string]string{}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			told[name] = value
		}
	}
	return told, nil
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
