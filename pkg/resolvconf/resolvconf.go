// Package resolvconf reads a resolv.conf(5) for what a guest can be told of it:
// the nameservers and the search list.
//
// It never fails on what it reads. A line it cannot use is left out and named in
// a warning, because a VM must start whatever the node's administrator, or the
// cluster's dnsConfig, wrote there. Options (ndots and its like) have no DHCP
// counterpart and are passed over. It opens no files.
package resolvconf

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

// Config is what a resolv.conf says.
type Config struct {
	Nameservers []netip.Addr // in order, each once, both families, without zones
	Search      []string     // in order, each once, lower case, without trailing dots
}

// maxLine bounds what a warning quotes of a line.
const maxLine = 80

// Bounds of what is handed out and told of, far above what any resolver heeds.
const (
	maxNames    = 256
	maxWarnings = 32
)

// Parse reads the text of a resolv.conf. The warnings are for people: each names
// the line and what is wrong with it.
func Parse(text []byte) (Config, []string) {
	var p parser
	for i, line := range bytes.Split(text, []byte("\n")) {
		p.line(i+1, string(line))
	}
	if p.searchLines > 1 {
		p.warnings = append(p.warnings, fmt.Sprintf(
			"%d search or domain lines: all are handed out, though the pod's own resolver may heed only the last", p.searchLines))
	}
	if p.silent > 0 {
		p.warnings = append(p.warnings, fmt.Sprintf("%d more such", p.silent))
	}
	return p.config, p.warnings
}

type parser struct {
	config      Config
	warnings    []string
	searchLines int
	silent      int // warnings beyond those
}

func (p *parser) warn(line int, format string, args ...any) {
	if len(p.warnings) >= maxWarnings {
		p.silent++
		return
	}
	p.warnings = append(p.warnings, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...))
}

// line takes one line. Comments start a line or follow white space: a resolver
// differs from the next on "nameserver 10.0.0.1#x", so only the clear case counts.
func (p *parser) line(n int, line string) {
	if !utf8.ValidString(line) {
		p.warn(n, "not text, left out")
		return
	}
	fields := strings.Fields(line)
	for i, f := range fields {
		if strings.HasPrefix(f, "#") || strings.HasPrefix(f, ";") {
			fields = fields[:i]
			break
		}
	}
	if len(fields) == 0 {
		return
	}
	switch strings.ToLower(fields[0]) {
	case "nameserver":
		p.nameserver(n, fields[1:])
	case "search", "domain":
		p.searchLines++
		for _, name := range fields[1:] {
			p.search(n, name)
		}
	case "options", "sortlist":
	default:
		p.warn(n, "unknown keyword %q, left out", short(fields[0]))
	}
}

func (p *parser) nameserver(n int, args []string) {
	if len(args) == 0 {
		p.warn(n, "nameserver without an address, left out")
		return
	}
	addr, err := parseAddr(args[0])
	switch {
	case err != nil:
		p.warn(n, "nameserver %q is no IP address, left out", short(args[0]))
	case addr.Zone() != "":
		// A zone names one of the pod's links; it means nothing in the guest.
		p.warn(n, "nameserver %q is of one link of the pod alone, left out", short(args[0]))
	case addr.IsUnspecified() || addr.IsMulticast():
		p.warn(n, "nameserver %q is no host's address, left out", short(args[0]))
	default:
		p.config.Nameservers = appendOnce(p, n, p.config.Nameservers, addr)
	}
}

func (p *parser) search(n int, name string) {
	domain, err := Domain(name)
	if err != nil {
		if name != "." { // "search ." is how an empty list is written
			p.warn(n, "search %q: %v, left out", short(name), err)
		}
		return
	}
	p.config.Search = appendOnce(p, n, p.config.Search, domain)
}

// parseAddr reads an address, and an IPv4 one also with leading zeros, which
// are decimal here as every user means them (netip refuses them).
func parseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err == nil {
		return addr.Unmap(), nil
	}
	parts := strings.Split(s, ".")
	if len(parts) != 4 {
		return netip.Addr{}, err
	}
	for i, part := range parts {
		if trimmed := strings.TrimLeft(part, "0"); trimmed != "" || part == "" {
			parts[i] = trimmed
		} else {
			parts[i] = "0"
		}
	}
	return netip.ParseAddr(strings.Join(parts, "."))
}

// Domain returns a domain name as it is handed out: lower case, without its
// trailing dot. It refuses what is none (RFC 1035 §2.3.4, with the underscore
// that clusters use), for a name that cannot be encoded would cost the guest the
// whole list.
func Domain(name string) (string, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	switch {
	case name == "":
		return "", fmt.Errorf("empty")
	case len(name) > 253:
		return "", fmt.Errorf("longer than 253 characters")
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return "", fmt.Errorf("%s is an IP address, not a domain name", addr)
	}
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return "", err
		}
	}
	return name, nil
}

func checkLabel(label string) error {
	switch {
	case label == "":
		return fmt.Errorf("no domain name: it has an empty label")
	case len(label) > 63:
		return fmt.Errorf("no domain name: a label is longer than 63 characters")
	case label[0] == '-' || label[len(label)-1] == '-':
		return fmt.Errorf("no domain name: a label starts or ends with a hyphen")
	}
	for _, c := range []byte(label) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return fmt.Errorf("no domain name: it has the character %q", rune(c))
		}
	}
	return nil
}

func short(s string) string {
	if len(s) > maxLine {
		return s[:maxLine] + "…"
	}
	return s
}

func appendOnce[T comparable](p *parser, line int, list []T, v T) []T {
	switch {
	case slices.Contains(list, v):
		return list
	case len(list) == maxNames:
		p.warn(line, "%v is one more than the %d that are handed out, left out", v, maxNames)
		return list
	default:
		return append(list, v)
	}
}
