package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/podwire/podwire/tests/pod"
)

// The columns of the matrix: what a client can be told.
const (
	Address  = "address"  // without its prefix
	Prefix   = "prefix"   // what is on-link around it
	Default  = "default"  // the default gateway
	Routes   = "routes"   // further routes that have a gateway
	DNS      = "dns"      // the nameservers
	Search   = "search"   // the search list
	MTU      = "mtu"      // of the link, or of its IPv6
	Hostname = "hostname" // of the guest
)

// Columns are all columns, in the order of the table.
var Columns = []string{Address, Prefix, Default, Routes, DNS, Search, MTU, Hostname}

// Told is what a client made of what it was told, by column and in one way of
// writing for all clients: lists have blanks between their members, a route is
// "DST via GATEWAY" and sorted, names have no dot at the end. What it was not told
// is not in it, or empty.
type Told map[string]string

// kernelTold reads the columns that a client has put into the kernel.
func kernelTold(ctx context.Context, space *pod.Space, link string, ipv4 bool) (Told, error) {
	told := Told{}
	var err error
	if told[Address], err = address(ctx, space, link, ipv4); err != nil {
		return nil, err
	}
	if err := told.routes(ctx, space, link, ipv4); err != nil || told[MTU] != "" {
		return told, err
	}
	file := "/sys/class/net/" + link + "/mtu"
	if !ipv4 {
		file = "/proc/sys/net/ipv6/conf/" + link + "/mtu"
	}
	mtu, err := space.ReadFile(file)
	told[MTU] = strings.TrimSpace(string(mtu))
	return told, err
}

// family is ip(8)'s option for a family.
func family(ipv4 bool) string {
	if ipv4 {
		return "-4"
	}
	return "-6"
}

// address returns the link's global addresses that are ready for use.
func address(ctx context.Context, space *pod.Space, link string, ipv4 bool) (string, error) {
	var links []struct {
		Addrs []struct {
			Local     string `json:"local"`
			Tentative bool   `json:"tentative"`
			Failed    bool   `json:"dadfailed"`
		} `json:"addr_info"`
	}
	if err := ipJSON(ctx, space, &links, family(ipv4), "address", "show", "dev", link, "scope", "global"); err != nil {
		return "", err
	}
	var addrs []string
	for _, each := range links {
		for _, addr := range each.Addrs {
			if addr.Local != "" && !addr.Tentative && !addr.Failed {
				addrs = append(addrs, addr.Local)
			}
		}
	}
	return strings.Join(addrs, " "), nil
}

// routes sorts the link's routes into columns. A host route to an address of the
// link's own, or to a gateway, is only a means. Some clients set the MTU on the
// default route, not on the link.
func (t Told) routes(ctx context.Context, space *pod.Space, link string, ipv4 bool) error {
	var routes []struct {
		Dst      string `json:"dst"`
		Gateway  string `json:"gateway"`
		NextHops []struct {
			Gateway string `json:"gateway"`
		} `json:"nexthops"`
		Metrics []struct {
			MTU int `json:"mtu"`
		} `json:"metrics"`
	}
	if err := ipJSON(ctx, space, &routes, family(ipv4), "route", "show", "dev", link); err != nil {
		return err
	}
	var prefixes, gateways, others []string
	for _, each := range routes {
		if each.Gateway == "" && len(each.NextHops) > 0 {
			each.Gateway = each.NextHops[0].Gateway
		}
		switch {
		case each.Dst == "default":
			gateways = append(gateways, each.Gateway)
			for _, metric := range each.Metrics {
				t[MTU] = strconv.Itoa(metric.MTU)
			}
		case each.Gateway != "":
			others = append(others, each.Dst+" via "+each.Gateway)
		case strings.Contains(each.Dst, "/") && !strings.HasPrefix(each.Dst, "fe80::"):
			prefixes = append(prefixes, each.Dst)
		}
	}
	slices.Sort(others)
	t[Prefix] = strings.Join(slices.Compact(prefixes), " ")
	t[Default] = strings.Join(slices.Compact(gateways), " ")
	t[Routes] = strings.Join(slices.Compact(others), ", ")
	return nil
}

// ipJSON runs ip(8) and reads what it prints.
func ipJSON(ctx context.Context, space *pod.Space, to any, args ...string) error {
	out, err := space.Run(ctx, "ip", append([]string{"-json"}, args...)...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), to); err != nil {
		return fmt.Errorf("reading what ip %q printed: %w", args, err)
	}
	return nil
}

// onLink returns the network of an address whose mask a client was told.
func onLink(addr string, mask string) string {
	prefix, err := netip.ParsePrefix(addr + "/" + mask)
	if err != nil {
		return addr + "/" + mask // which will not be what is wanted
	}
	return prefix.Masked().String()
}

// pairs reads a list "DST VIA DST VIA" of classless routes (RFC 3442), as udhcpc
// and dhcpcd give it to their scripts.
func (t Told) pairs(list string) {
	words := strings.Fields(list)
	var others []string
	for ; len(words) >= 2; words = words[2:] {
		switch dst, via := words[0], words[1]; {
		case dst == "0.0.0.0/0":
			t[Default] = via
		case via != "0.0.0.0":
			others = append(others, dst+" via "+via)
		}
	}
	slices.Sort(others)
	t[Routes] = strings.Join(others, ", ")
}

// names writes a list of names with blanks, each once, and without dots at the ends.
func names(list string) string {
	var out []string
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' }) {
		if word = strings.TrimSuffix(word, "."); !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	return strings.Join(out, " ")
}

// ipv6s is names for IPv6 addresses, which it writes as netip does.
func ipv6s(list string) string {
	words := strings.Fields(list)
	for i, word := range words {
		if addr, err := netip.ParseAddr(word); err == nil {
			words[i] = addr.String()
		}
	}
	return names(strings.Join(words, " "))
}
