package dhcp6

import (
	"encoding/binary"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/podwire/podwire/pkg/resolvconf"
	"github.com/podwire/podwire/pkg/wiretext"
)

const leastRefresh = 600 // IRT_MINIMUM, RFC 8415 §7.6 and §21.23

// The flags of option 39 (RFC 4704 §4.1).
const (
	fqdnServerUpdates = 1 << 0 // S
	fqdnOverridden    = 1 << 1 // O
	fqdnNoUpdates     = 1 << 2 // N
)

// configure adds what the client asks for beside addresses, the important first
// and the search list, which may be long, last.
func (m *message) configure() {
	for _, code := range []uint16{optDNS, optBootURL, optFQDN, optNTP, optSNTP, optRefresh, optSearch} {
		if !m.wants(code) {
			continue
		}
		items := m.items(code)
		if code == optNTP { // RFC 5908 §4: one option for each server
			for _, item := range items {
				m.put(code, nil, item)
			}
			continue
		}
		if len(items) > 0 {
			m.put(code, nil, items...)
		}
	}
}

// wants reports whether a client is to have an option. It must ask for each (RFC
// 8415 §21.7); one that sends no list gets what no guest can do without.
//
// RFC 4704 §6 has a server name the guest only if it both asks and says what it
// calls itself. But one that has no name yet asks without, and it is told.
func (m *message) wants(code uint16) bool {
	switch {
	case code == optFQDN && m.req.FQDN:
		return true
	case len(m.req.Asked) == 0:
		return code == optDNS || code == optSearch
	default:
		return slices.Contains(m.req.Asked, code)
	}
}

// items returns an option's value in the pieces that it can be cut into; nothing
// for what the lease does not have.
func (m *message) items(code uint16) [][]byte {
	switch code {
	case optDNS:
		return addrItems(m.lease.DNS, nil)
	case optSNTP:
		return addrItems(m.lease.NTP, nil)
	case optNTP:
		return addrItems(m.lease.NTP, []byte{0, 1, 0, 16}) // RFC 5908 §4.1: suboption 1
	case optSearch:
		return m.search()
	case optFQDN:
		return one(m.fqdn())
	case optBootURL:
		return one([]byte(m.bootURL()))
	case optRefresh:
		return one(m.refresh())
	}
	return nil
}

func one(value []byte) [][]byte {
	if len(value) == 0 {
		return nil
	}
	return [][]byte{value}
}

// addrItems encodes the IPv6 addresses of a list, each behind a prefix.
func addrItems(addrs []netip.Addr, prefix []byte) [][]byte {
	var out [][]byte
	for _, a := range addrs {
		if a.Is6() && !a.Is4In6() {
			out = append(out, append(slices.Clone(prefix), a.AsSlice()...))
		}
	}
	return out
}

// search encodes the search list (RFC 3646 §4), whose names may not be compressed
// (RFC 8415 §10). DHCPv6 has no other option for the domain: where there is no
// list, it is the list.
func (m *message) search() [][]byte {
	names := m.lease.Search
	if len(names) == 0 {
		names = []string{m.lease.Domain}
	}
	var out [][]byte
	for _, name := range names {
		if name, err := resolvconf.Domain(name); err == nil {
			out = append(out, append(wiretext.AppendName(nil, name), 0))
		}
	}
	return out
}

// fqdn encodes what the guest is called. A name whose domain is not known is a
// partial one, which no empty label ends (RFC 4704 §4.2).
func (m *message) fqdn() []byte {
	host, err := resolvconf.Domain(m.lease.Hostname)
	if err != nil {
		return nil
	}
	// Nobody here updates the DNS, whatever the client would like (RFC 4704 §6).
	b := []byte{fqdnNoUpdates}
	if m.req.FQDNFlags&fqdnServerUpdates != 0 {
		b[0] |= fqdnOverridden
	}
	if strings.Contains(host, ".") {
		return append(wiretext.AppendName(b, host), 0)
	}
	domain, err := resolvconf.Domain(m.lease.Domain)
	if err != nil {
		return wiretext.AppendName(b, host)
	}
	full, err := resolvconf.Domain(host + "." + domain)
	if err != nil {
		return wiretext.AppendName(b, host)
	}
	return append(wiretext.AppendName(b, full), 0)
}

// bootURL returns where to boot from (RFC 5970 §3.1): the lease's boot file, if
// it is a URL, else one made of it and the TFTP server. One on an IPv4 address is
// for DHCPv4 to tell.
func (m *message) bootURL() string {
	file := m.lease.BootFile
	if strings.Contains(file, "://") {
		u, err := url.Parse(file)
		if err != nil || isIPv4(u.Hostname()) {
			return ""
		}
		return file
	}
	server := m.lease.TFTPServer
	if file == "" || server == "" || isIPv4(server) {
		return ""
	}
	if a, err := netip.ParseAddr(server); err == nil {
		server = "[" + a.WithZone("").String() + "]" // RFC 3986 §3.2.2
	} else if server, err = resolvconf.Domain(server); err != nil {
		return ""
	}
	u := url.URL{Scheme: "tftp", Host: server, Path: "/" + strings.TrimPrefix(file, "/")}
	return u.String()
}

func isIPv4(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().Is4()
}

// refresh says when to ask again for what is told without a lease (RFC 8415
// §21.23). Where the lease is infinite, a client does so every day.
func (m *message) refresh() []byte {
	if m.req.Type != dhcpv6.MessageTypeInformationRequest || m.lease.Time <= 0 {
		return nil
	}
	lifetime, _, _ := times(m.lease.Time)
	return binary.BigEndian.AppendUint32(nil, max(lifetime, leastRefresh))
}
