package discover

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/resolvconf"
)

// names fills in what is told by name: host, domain, search list, nameservers.
func (d *discovery) names(l *lease.Lease, host Host, c config.Config) {
	l.Hostname = c.Hostname
	if l.Hostname == "" {
		name, err := resolvconf.Domain(host.Hostname)
		if err != nil {
			d.warn("the pod's host name %q is not handed out: %v", host.Hostname, err)
		}
		l.Hostname = name
	}
	d.nameservers(l, host, c)
	switch {
	case c.Search != nil:
		l.Search = c.Search
	case len(l.DNS) > 0 || d.primary():
		l.Search = d.search(host.ResolvConf.Search)
	}
	switch _, rest, full := strings.Cut(l.Hostname, "."); {
	case c.Domain != "":
		l.Domain = c.Domain
	case full:
		l.Domain = rest
	case len(l.Search) > 0:
		l.Domain = l.Search[0]
	}
}

// search is the list of the interface's own network, or else the pod's.
func (d *discovery) search(pods []string) []string {
	if len(d.network.Search) == 0 {
		return pods
	}
	var out []string
	for _, s := range d.network.Search {
		name, err := resolvconf.Domain(s)
		if err != nil {
			d.warn("network %q: search %q: %v, left out", d.network.Name, s, err)
			continue
		}
		out = append(out, name)
	}
	return out
}

func (d *discovery) networkNameservers() []netip.Addr {
	var out []netip.Addr
	for _, s := range d.network.Nameservers {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			d.warn("network %q: nameserver %q is no IP address, left out", d.network.Name, s)
			continue
		}
		out = append(out, addr.Unmap())
	}
	return out
}

// nameservers hands out those that the pod reaches by this interface: by another
// one of its interfaces, the guest would ask in vain.
func (d *discovery) nameservers(l *lease.Lease, host Host, c config.Config) {
	switch {
	case c.DNS != nil:
		l.DNS = c.DNS
	case len(d.network.Nameservers) > 0:
		l.DNS = d.networkNameservers()
	default:
		l.DNS = d.reached(host.ResolvConf.Nameservers)
	}
	if c.DNSForward && d.primary() {
		d.forward(l)
		return
	}
	if c.DNSForward && d.alone {
		d.warn("%q is not the pod's primary interface, which alone has its DNS relayed (--dns-forward)", d.link.Name)
	}
	l.DNS = slices.DeleteFunc(slices.Clone(l.DNS), func(ns netip.Addr) bool {
		why := d.outOfReach(*l, ns)
		if why != "" {
			d.warn("nameserver %s is %s: left out; "+
				"give another with --dns, or have podwire relay to it with --dns-forward", ns, why)
		}
		return why != ""
	})
	if len(l.DNS) == 0 && d.primary() {
		d.warn("the guest gets no nameserver; give one with --dns")
	}
}

// outOfReach says why the guest cannot ask a nameserver that the pod can, or nothing.
func (d *discovery) outOfReach(l lease.Lease, ns netip.Addr) string {
	behind := d.binding == config.Masquerade
	switch {
	case ns.IsLoopback():
		return "inside the pod, where the guest cannot reach it"
	case behind && ns.Is6() && ns.IsLinkLocalUnicast():
		return "on the pod's link, where the guest behind the pod cannot reach it"
	case behind && len(l.AddrsOf(ns.Is4())) == 0:
		return "of a family in which the guest has no address"
	default:
		return ""
	}
}

// forward makes podwire a nameserver of the guest's, in each family that the guest
// has, before those that the guest reaches by itself. These are not relayed to: the
// pod that would ask them has given up its addresses.
func (d *discovery) forward(l *lease.Lease) {
	if _, ok := l.IPv4(); ok {
		l.Server.DNS = append(l.Server.DNS, l.Server.ID)
	}
	if len(l.AddrsOf(false)) > 0 {
		l.Server.DNS = append(l.Server.DNS, forwarder6(l.Server.MAC))
	}
	var direct []netip.Addr
	for _, ns := range l.DNS {
		if d.outOfReach(*l, ns) != "" || d.byOther(ns) {
			l.Upstream = append(l.Upstream, ns)
		} else {
			direct = append(direct, ns)
		}
	}
	switch {
	case len(l.Upstream) > 0:
		l.DNS = slices.Concat(l.Server.DNS, direct)
	case len(direct) > 0:
		l.DNS = direct
		d.warn("there is no nameserver inside the pod: nothing is relayed, and the guest is told of those that it reaches by itself")
	default:
		l.DNS = l.Server.DNS
		d.warn("there is no nameserver to relay the guest's questions to; give one with --dns")
	}
	for _, addr := range slices.Backward(l.Server.DNS) {
		// On the link, so that it is asked for there also by a guest without a
		// default route.
		l.Routes = slices.Insert(l.Routes, 0, lease.Route{Dst: netip.PrefixFrom(addr, addr.BitLen())})
	}
}

// byOther reports whether the pod reaches an address by another of its interfaces.
func (d *discovery) byOther(addr netip.Addr) bool {
	r, found := d.routeTo(addr)
	return found && !r.Uses(d.link.Index)
}

// forwarder6 is a unique local address (RFC 4193) that is made of the server's
// MAC, which is made of the pod's. A link-local one would be of no use in a guest's
// resolv.conf without the name of its interface.
func forwarder6(m netstate.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 1: m[1], 2: m[2], 3: m[3], 4: m[4], 5: m[5], 15: 53})
}

// reached returns the nameservers that the pod reaches by this interface. Those
// inside the pod are the primary interface's, as are those that it reaches by none.
func (d *discovery) reached(all []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, ns := range all {
		r, found := d.routeTo(ns)
		if found && r.Uses(d.link.Index) || !found && d.primary() {
			out = append(out, ns)
		} else if other, ok := d.snapshot.LinkByIndex(r.Link); ok && d.alone {
			d.warn("nameserver %s is reached by %q and not by %q: left out; give another with --dns", ns, other.Name, d.link.Name)
		}
	}
	return out
}

// routeTo is the main table's best route to an address. The longest prefix wins,
// then the least metric.
func (d *discovery) routeTo(addr netip.Addr) (best netstate.Route, found bool) {
	for _, r := range d.snapshot.Routes {
		if r.Table != netstate.TableMain || r.Type != netstate.TypeUnicast || !r.Dst.Contains(addr) || addr.IsLoopback() {
			continue
		}
		longer := r.Dst.Bits() > best.Dst.Bits()
		if !found || longer || r.Dst.Bits() == best.Dst.Bits() && r.Priority < best.Priority {
			best, found = r, true
		}
	}
	return best, found
}

// primary reports whether this is the interface of the pod's default network: the
// one that the pod's annotation says, else that of the default route, else the first.
func (d *discovery) primary() bool {
	for _, n := range d.networks {
		if n.Default {
			return n.Interface == d.link.Name
		}
	}
	for _, ipv4 := range []bool{true, false} {
		if link, ok := defaultRouteLink(d.snapshot, ipv4); ok {
			return link.Index == d.link.Index
		}
	}
	return d.alone || d.link.Index == firstLink(d.snapshot)
}

// firstLink is the number of the interface that was made first, of those by which
// the pod has a way anywhere. The routes of one that is wired are in the snapshot
// also where its addresses are gone.
func firstLink(s netstate.Snapshot) int {
	first := 0
	for _, r := range s.Routes {
		l, ok := s.LinkByIndex(r.Link)
		local := r.Table != netstate.TableMain || r.Type != netstate.TypeUnicast || r.Dst.Addr().IsLinkLocalUnicast() || r.Dst.Addr().IsMulticast()
		if ok && !l.Loopback && !local && (first == 0 || r.Link < first) {
			first = r.Link
		}
	}
	return first
}
