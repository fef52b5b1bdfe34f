package client

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

var dhclientVersion = version(`isc-dhclient-(\S+)`, tool("dhclient", "--version"))

var dhclientDriver = Driver{
	Name: "dhclient", IPv4: true, Version: dhclientVersion,
	Run: func(ctx context.Context, g Guest) (Told, error) {
		c, err := Dhclient(g.Space, g.Dir, g.Link, "", "")
		if err != nil {
			return nil, err
		}
		defer c.Stop()
		event, err := c.Wait(ctx, "BOUND")
		if err != nil {
			return nil, err
		}
		env := event.Told
		told := Told{
			Address: env["new_ip_address"], Prefix: onLink(env["new_ip_address"], bits(env["new_subnet_mask"])),
			DNS: names(env["new_domain_name_servers"]), Search: names(env["new_domain_search"]),
			MTU: env["new_interface_mtu"], Hostname: env["new_host_name"],
		}
		told.pairs(octets(env["new_rfc3442_classless_static_routes"]))
		return told, nil
	},
}

var dhclient6Driver = Driver{
	Name: "dhclient", Kernel: true, Version: dhclientVersion,
	Cannot: always(map[string]string{
		MTU:    "DHCPv6 has no MTU: the kernel takes it from router advertisements",
		Prefix: routesByRA, Default: routesByRA, Routes: routesByRA,
	}),
	Run: func(ctx context.Context, g Guest) (Told, error) {
		if err := linkLocal(ctx, g); err != nil {
			return nil, err
		}
		c, err := Dhclient6(g.Space, g.Dir, g.Link, "")
		if err != nil {
			return nil, err
		}
		defer c.Stop()
		event, err := c.Wait(ctx, "BOUND6")
		if err != nil {
			return nil, err
		}
		env := event.Told
		return Told{
			Address: env["new_ip6_address"], DNS: ipv6s(env["new_dhcp6_name_servers"]),
			Search: names(env["new_dhcp6_domain_search"]), Hostname: names(env["new_fqdn_fqdn"]),
		}, nil
	},
}

// bits turns a mask such as 255.255.255.0 into a number of bits.
func bits(mask string) string {
	addr, err := netip.ParseAddr(mask)
	if err != nil || !addr.Is4() {
		return mask
	}
	n := 0
	for _, octet := range addr.As4() {
		for ; octet&0x80 != 0; octet <<= 1 {
			n++
		}
	}
	return strconv.Itoa(n)
}

// octets turns RFC 3442's encoding, which dhclient hands to its script in decimal
// numbers, into pairs of a destination and a gateway.
func octets(list string) string {
	words := strings.Fields(list)
	var out []string
	for len(words) > 0 {
		length, err := strconv.Atoi(words[0])
		significant := (length + 7) / 8
		if err != nil || significant > 4 || len(words) < 1+significant+4 {
			return fmt.Sprintf("bad %q", list)
		}
		dst := append(append([]string{}, words[1:1+significant]...), "0", "0", "0", "0")[:4]
		via := words[1+significant : 1+significant+4]
		out = append(out, strings.Join(dst, ".")+"/"+words[0], strings.Join(via, "."))
		words = words[1+significant+4:]
	}
	return strings.Join(out, " ")
}
