package client

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// dhcpcdConf asks for all. Without noarp it spends seconds on looking for others
// who have the address (RFC 5227).
const dhcpcdConf = `noarp
noipv4ll
noipv6rs
hostname asked
option domain_name_servers, domain_name, domain_search, host_name, interface_mtu
option classless_static_routes
option dhcp6_name_servers, dhcp6_domain_search, dhcp6_fqdn
env told=`

// dhcpcd starts it on a link, for one family. It takes router advertisements itself
// and configures the link itself; the script only reports.
func dhcpcd(g Guest, family, conf string) (*Client, error) {
	path, err := g.Dir.Tool("dhcpcd")
	if err != nil {
		return nil, err
	}
	at := "/run/dhcpcd-" + g.Link
	conf += at + "/told\n"
	if err := g.Space.WriteFile(at+"/conf", []byte(conf), 0o644); err != nil {
		return nil, err
	}
	if err := g.Space.WriteFile("/var/lib/dhcpcd/README", nil, 0o644); err != nil { // the directory, for its DUID
		return nil, err
	}
	cmd := exec.Command(path, "--nobackground", "--debug", family, "--config", at+"/conf", "--script", at+"/script", g.Link)
	return start(g.Space, at, cmd)
}

var dhcpcdVersion = version(`dhcpcd (\S+)`, tool("dhcpcd", "--version"))

var dhcpcdDriver = Driver{
	Name: "dhcpcd", IPv4: true, Version: dhcpcdVersion,
	Run: func(ctx context.Context, g Guest) (Told, error) {
		c, err := dhcpcd(g, "--ipv4only", dhcpcdConf)
		if err != nil {
			return nil, err
		}
		defer c.Stop()
		event, err := c.Wait(ctx, "BOUND")
		if err != nil {
			return nil, err
		}
		told, err := kernelTold(ctx, g.Space, g.Link, true)
		if err != nil {
			return nil, err
		}
		env := event.Told
		told[DNS] = names(env["new_domain_name_servers"])
		told[Search] = names(env["new_domain_search"])
		told[Hostname] = env["new_host_name"]
		// It sets the MTU on its routes, and leaves the link's alone.
		told[MTU] = env["new_interface_mtu"]
		return told, nil
	},
}

var dhcpcd6Driver = Driver{
	Name: "dhcpcd", Version: dhcpcdVersion,
	Cannot: func(version string) map[string]string {
		// One behind 10.1 does: github.com/NetworkConfiguration/dhcpcd/pull/297.
		var major, minor int
		if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err == nil && (major > 10 || major == 10 && minor > 1) {
			return nil
		}
		return map[string]string{Routes: "this version takes no route information (RFC 4191) from router advertisements"}
	},
	Run: func(ctx context.Context, g Guest) (Told, error) {
		c, err := dhcpcd(g, "--ipv6only", strings.Replace(dhcpcdConf, "noipv6rs\n", "", 1))
		if err != nil {
			return nil, err
		}
		defer c.Stop()
		env := map[string]string{}
		for env["new_dhcp6_ia_na1_ia_addr1"] == "" || env["nd1_from"] == "" {
			event, err := c.Wait(ctx, "ROUTERADVERT", "BOUND6")
			if err != nil {
				return nil, err
			}
			for name, value := range event.Told {
				env[name] = value
			}
		}
		return poll(ctx, "dhcpcd's address", func() (Told, bool, error) {
			told, err := kernelTold(ctx, g.Space, g.Link, false)
			if err != nil {
				return nil, false, err
			}
			told[DNS] = ipv6s(env["new_dhcp6_name_servers"])
			told[Search] = names(env["new_dhcp6_domain_search"])
			told[Hostname] = names(env["new_dhcp6_fqdn"])
			return told, told[Address] != "", nil
		})
	},
}
