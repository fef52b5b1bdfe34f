package discover

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/resolvconf"
)

// Host is what a pod knows of itself outside the kernel's network state.
type Host struct {
	Hostname   string
	ResolvConf resolvconf.Config
	Networks   []Network // of the pod's network-status annotation, where it is known
	// Unasked says that nobody has asked the pod's gateways for their MACs yet, so
	// that one which is not known is nothing to warn of.
	Unasked bool
}

// Found is a pod interface and what its guest is to be told.
type Found struct {
	Link     netstate.Link
	Network  string // what the pod's annotation calls its network, if it does
	Lease    lease.Lease
	Warnings []string // for people; what could not be handed out, each in one line
}

// leastMTU is the least that DHCP option 26 can say (RFC 2132 §5.1).
const leastMTU = 68

// Discover works out the lease of one pod interface. It fails only where the
// configuration asks for what the interface cannot give.
func Discover(s netstate.Snapshot, link netstate.Link, host Host, c config.Config) (Found, error) {
	d := discovery{
		snapshot: s, link: link, binding: c.Binding.For(link), networks: host.Networks, alone: !c.All && len(c.Interfaces) <= 1,
		unasked: host.Unasked, told: slices.Concat(host.ResolvConf.Nameservers, c.DNS, c.NTP),
	}
	for _, n := range host.Networks {
		if n.Interface == link.Name {
			d.network = n
		}
	}
	for _, text := range d.network.Nameservers {
		if addr, err := netip.ParseAddr(text); err == nil {
			d.told = append(d.told, addr.Unmap())
		}
	}
	l := lease.Lease{
		NTP: c.NTP, TFTPServer: c.TFTPServer, BootFile: c.BootFile, Options: c.Options, Time: c.LeaseTime,
	}
	var err error
	if l.MTU, err = d.mtu(c.MTU); err != nil {
		return Found{}, err
	}
	if l.MAC, err = d.mac(c.MAC); err != nil {
		return Found{}, err
	}
	if d.binding == config.Masquerade {
		if err := d.behind(&l, c); err != nil {
			return Found{}, err
		}
	} else {
		d.inPlace(&l, c)
	}
	d.names(&l, host, c)
	return Found{Link: link, Network: d.network.Name, Lease: l, Warnings: d.warnings}, nil
}

// inPlace fills in the lease of a guest that takes the pod's place in its network.
func (d *discovery) inPlace(l *lease.Lease, c config.Config) {
	l.Addrs = d.addrs()
	l.Routes = d.routes(l.Addrs)
	l.Neighbors = d.neighbors(l.Addrs)
	d.answerForStandIns(l)
	l.Server = lease.Server{ID: d.spare(1), MAC: d.link.MAC.Derive("server")}
	d.routers(l)
	if d.binding == config.Macvtap {
		d.asItIs(c)
	}
}

// asItIs names what is wrong with a macvtap that nothing is done to.
func (d *discovery) asItIs(c config.Config) {
	if len(c.Ports)+len(c.ExcludePorts)+len(c.ExcludeFrom) > 0 {
		d.warn("%q is a macvtap, which is handed over as it is: --port, --exclude-port and --exclude-from keep nothing from its guest", d.link.Name)
	}
	if !d.link.Up {
		d.warn("%q is a macvtap, which is handed over as it is, and it is down: bring it up", d.link.Name)
	}
	if d.link.TxQLen == 0 { // the ring that a hypervisor reads has as many places
		d.warn("%q is a macvtap with a queue of length 0, by which nothing comes to its guest: give it another (ip link set %s txqueuelen 500)",
			d.link.Name, d.link.Name)
	}
}

type discovery struct {
	snapshot netstate.Snapshot
	link     netstate.Link
	binding  config.Binding // the link's
	networks []Network
	network  Network                   // the link's
	unasked  bool                      // the pod's gateways were not asked for their MACs
	alone    bool                      // nobody spoke of other interfaces
	told     []netip.Addr              // addresses that the guest may be told, whatever else is
	standIns map[netip.Addr]netip.Addr // IPv4 gateways made up for IPv6 ones
	warnings []string
}

func (d *discovery) warn(format string, args ...any) {
	d.warnings = append(d.warnings, fmt.Sprintf(format, args...))
}

// mtu is what is told to the guest. A default route may allow less than the link
// does, where a tunnel lies behind it; a guest has one MTU for all.
func (d *discovery) mtu(asked int) (int, error) {
	if asked > d.link.MTU {
		return 0, fmt.Errorf("mtu %d is more than the %d octets that %q carries: frames of that size would be lost",
			asked, d.link.MTU, d.link.Name)
	}
	if asked != 0 {
		return min(asked, netstate.MaxTapMTU), nil
	}
	mtu := min(d.link.MTU, netstate.MaxTapMTU)
	for _, r := range d.snapshot.RoutesOf(d.link.Index) {
		if least := r.MTU(); least >= leastMTU && least < mtu && r.Default() && r.Table == netstate.TableMain {
			d.warn("the default route has an MTU of %d, and %q one of %d: the guest is told %d", least, d.link.Name, d.link.MTU, least)
			mtu = least
		}
	}
	return mtu, nil
}

// mac is the guest's address. libvirt refuses one that begins with FE, which it
// keeps for its taps, so such a pod's guest differs from it in that octet.
func (d *discovery) mac(asked netstate.MAC) (netstate.MAC, error) {
	mac, own := cmp.Or(asked, d.link.MAC), d.link.MAC
	switch {
	case d.binding == config.Masquerade:
		return d.macBehind(asked)
	case d.ownMACAlone() && mac != own:
		return mac, fmt.Errorf("--mac %s: %q is a %s, which passes no frames of another MAC than its own, %s: leave --mac out",
			mac, d.link.Name, d.link.Kind, own)
	case d.ownMACAlone() && mac[0] == libvirtsOwn:
		return mac, fmt.Errorf("the MAC %s of %q begins with fe, which libvirt refuses, and a %s passes no frames of another: "+
			"have the pod's network give it another, or use one that is a veth", mac, d.link.Name, d.link.Kind)
	case mac[0] == libvirtsOwn:
		mac[0] = 0x02
		d.warn("the MAC %s of %q begins with fe, which libvirt refuses: the guest gets %s; "+
			"a network that knows pods by their MAC will not know it", own, d.link.Name, mac)
	}
	return mac, nil
}

// libvirtsOwn is the first octet of the MACs that libvirt keeps for its taps.
const libvirtsOwn = 0xfe

// ownMACAlone reports whether the link passes frames of its own MAC and no others.
func (d *discovery) ownMACAlone() bool {
	return d.binding == config.Macvtap || d.link.Kind == "macvlan"
}

// addrs returns the addresses that a guest can have. One whose prefix the pod
// has no on-link route for (the CNI plugin ptp takes it away, kindnet routes it)
// is alone on its link, whatever its prefix length says: a guest that believed
// the length would ask in vain for its neighbours.
func (d *discovery) addrs() []netip.Prefix {
	var out []netip.Prefix
	var more []string
	for _, a := range d.snapshot.AddrsOf(d.link.Index) {
		// Of an IPv4 address the same flag says that it is a further one of its prefix.
		if !a.Global() || a.Prefix.Addr().Is6() && a.Flags&netstate.AddrTemporary != 0 {
			continue
		}
		if a.Flags&netstate.AddrDADFailed != 0 {
			d.warn("address %s of %q is a duplicate of another host's: left out", a.Prefix, d.link.Name)
			continue
		}
		if a.ValidLft != netstate.Forever {
			d.warn("address %s of %q runs out in %d s unless the network renews it, and the guest is told that it lasts", a.Prefix, d.link.Name, a.ValidLft)
		}
		p := a.Prefix
		if !p.IsSingleIP() && !d.onLink(p.Masked()) {
			p = netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
		}
		if slices.ContainsFunc(out, func(have netip.Prefix) bool { return have.Addr().Is4() && p.Addr().Is4() }) {
			more = append(more, p.Addr().String())
		}
		out = append(out, p)
	}
	if len(more) > 0 {
		d.warn("%q has more than one IPv4 address; DHCPv4 hands out the first, the guest may configure %s by itself",
			d.link.Name, strings.Join(more, ", "))
	}
	if len(out) == 0 {
		d.warn("%q has no global address: the guest is joined to its network and told nothing", d.link.Name)
	}
	return out
}

func (d *discovery) onLink(p netip.Prefix) bool {
	return slices.ContainsFunc(d.snapshot.Routes, func(r netstate.Route) bool {
		return r.Link == d.link.Index && r.Table == netstate.TableMain && r.Type == netstate.TypeUnicast &&
			r.Dst == p && !r.Via.IsValid()
	})
}

// neighbors are those that somebody set by hand, because nothing answers for
// them on the link (the AWS VPC CNI's gateway).
func (d *discovery) neighbors(own []netip.Prefix) []lease.Neighbor {
	var out []lease.Neighbor
	for _, n := range d.snapshot.NeighborsOf(d.link.Index) {
		isOwn := slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == n.Addr })
		if n.Permanent() && n.MAC.IsUnicast() && !n.Addr.IsMulticast() && !isOwn {
			out = append(out, lease.Neighbor{Addr: n.Addr, MAC: n.MAC})
		}
	}
	return out
}

// spareEnd is where the spare addresses end: 169.254.75.254 is the guest's in the
// relay of its DNS questions.
const spareEnd = 254

// spare returns an address for podwire's own use: 169.254.75.1, or the next one
// that nothing in the pod's view has.
func (d *discovery) spare(first int) netip.Addr {
	for last := first; last < spareEnd; last++ {
		if addr := netip.AddrFrom4([4]byte{169, 254, 75, byte(last)}); !d.taken(addr) {
			return addr
		}
	}
	return netip.AddrFrom4([4]byte{169, 254, 75, byte(first)})
}

func (d *discovery) taken(addr netip.Addr) bool {
	for _, a := range d.snapshot.Addrs {
		if a.Prefix.Addr() == addr || a.Peer == addr {
			return true
		}
	}
	for _, n := range d.snapshot.Neighbors {
		if n.Addr == addr {
			return true
		}
	}
	for _, r := range d.snapshot.Routes {
		if r.Via == addr || r.Dst.Addr() == addr {
			return true
		}
	}
	for _, standIn := range d.standIns {
		if standIn == addr {
			return true
		}
	}
	return slices.Contains(d.told, addr)
}
