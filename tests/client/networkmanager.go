package client

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/podwire/podwire/tests/pod"
)

// busConf is for a D-Bus of the space's own, on which everybody may do everything.
const busConf = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
  </policy>
</busconfig>
`

// networkManagerConf keeps to the link and leaves /etc alone.
const networkManagerConf = `[main]
plugins=keyfile
dhcp=internal
dns=none
rc-manager=unmanaged
auth-polkit=false
no-auto-default=*
hostname-mode=none
[device]
managed=1
[keyfile]
path=/run/nm/connections
[logging]
level=INFO
`

// networkManagerLink is a profile for a link that a hypervisor stand-in made as a
// tap.
const networkManagerLink = `[connection]
id=guest
uuid=6a1f8f3c-6d7e-4c53-9d8b-0f3a5a1c7e42
type=tun
interface-name=%s
[tun]
mode=2
[ipv4]
method=%s
[ipv6]
method=%s
addr-gen-mode=eui64
`

// networkManager starts it in the guest's space, with a D-Bus, for one family, and
// returns how to end both and what they log.
func networkManager(g Guest, ipv4, ipv6 string) (stop func(), log *pod.Log, err error) {
	for path, content := range map[string]string{
		"/run/dbus/conf":                         busConf,
		"/run/nm/conf":                           networkManagerConf,
		"/run/nm/conf.d/README":                  "",
		"/run/nm/connections/guest.nmconnection": fmt.Sprintf(networkManagerLink, g.Link, ipv4, ipv6),
		"/var/lib/NetworkManager/README":         "",
	} {
		if err := g.Space.WriteFile(path, []byte(content), 0o600); err != nil {
			return nil, nil, err
		}
	}
	bus, err := g.Dir.Tool("dbus-daemon")
	if err != nil {
		return nil, nil, err
	}
	manager, err := g.Dir.Tool("NetworkManager")
	if err != nil {
		return nil, nil, err
	}
	log = &pod.Log{}
	// The bus forks once its socket is there. As in a container, nobody waits for udev
	// where /sys cannot be written.
	cmd := exec.Command("sh", "-c", `mount -o remount,bind,ro /sys && "$1" --config-file=/run/dbus/conf --fork && exec "$2" --debug \
		--config=/run/nm/conf --config-dir=/run/nm/conf.d --system-config-dir=/run/nm/conf.d \
		--intern-config=/run/nm/intern.conf --state-file=/run/nm/state`, "sh", bus, manager)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+g.Dir.Libraries())
	cmd.Stdout, cmd.Stderr = log, log
	if err := g.Space.Start(cmd); err != nil {
		return nil, nil, fmt.Errorf("starting NetworkManager: %w", err)
	}
	// The bus ends with the space.
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}, log, nil
}

var networkManagerVersion = version(`(\S+)`, tool("NetworkManager", "--version"))

// nmcli reads what NetworkManager says of the link: NAME:VALUE lines, where a name
// with many values has a number in brackets.
func nmcli(ctx context.Context, g Guest, fields string) (map[string][]string, error) {
	words, err := tool("nmcli", "--terse", "--escape", "no", "--fields", fields, "device", "show", g.Link)(g)
	if err != nil {
		return nil, err
	}
	out, err := g.Space.Run(ctx, words[0], words[1:]...)
	all := map[string][]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		name, _, _ = strings.Cut(name, "[")
		all[name] = append(all[name], value)
	}
	return all, err
}

var networkManagerDriver = Driver{
	Name: "NetworkManager", IPv4: true, Version: networkManagerVersion,
	Run: func(ctx context.Context, g Guest) (Told, error) {
		return networkManagerRun(ctx, g, "4")
	},
}

var networkManager6Driver = Driver{
	Name: "NetworkManager", Version: networkManagerVersion,
	Run: func(ctx context.Context, g Guest) (Told, error) {
		return networkManagerRun(ctx, g, "6")
	},
}

// networkManagerRun runs it for a family, "4" or "6".
func networkManagerRun(ctx context.Context, g Guest, family string) (Told, error) {
	ipv4, ipv6, name := "auto", "disabled", "host_name"
	if family == "6" {
		ipv4, ipv6, name = ipv6, ipv4, "fqdn_fqdn"
	}
	stop, log, err := networkManager(g, ipv4, ipv6)
	if err != nil {
		return nil, err
	}
	defer stop()
	var asked error // by nmcli, the last time
	told, err := poll(ctx, "NetworkManager", func() (Told, bool, error) {
		show, err := nmcli(ctx, g, fmt.Sprintf("GENERAL,IP%s,DHCP%[1]s", family))
		if ctx.Err() == nil {
			asked = err
		}
		if err != nil {
			return nil, ctx.Err() != nil, ctx.Err() // it may not be there yet
		}
		told, err := kernelTold(ctx, g.Space, g.Link, family == "4")
		if err != nil {
			return nil, false, err
		}
		told[DNS] = ipv6s(strings.Join(show["IP"+family+".DNS"], " "))
		told[Search] = names(strings.Join(append(show["IP"+family+".SEARCHES"], show["IP"+family+".DOMAIN"]...), " "))
		told[Hostname] = option(show["DHCP"+family+".OPTION"], name)
		return told, strings.HasPrefix(strings.Join(show["GENERAL.STATE"], ""), "100") && told[Address] != "", nil
	})
	if err != nil {
		err = fmt.Errorf("%w\n%w\n%s", err, asked, log.String())
	}
	return told, err
}

// option picks one of the options "NAME = VALUE" that nmcli lists.
func option(options []string, name string) string {
	for _, each := range options {
		if value, ok := strings.CutPrefix(each, name+" = "); ok {
			return names(value)
		}
	}
	return ""
}
