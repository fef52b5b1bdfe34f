package pod

import "net/netip"

// Binding is a way in which podwire gives a pod's network to a guest, by podwire's name
// for it. What a test may expect of one that it may not of another is said here.
type Binding string

// The bindings.
const (
	Bridge     Binding = "bridge"
	TC         Binding = "tc"
	Masquerade Binding = "masquerade"
)

// Bindings are all of them, podwire's default first.
var Bindings = []Binding{Bridge, TC, Masquerade}

// Bind has all that runs podwire in the pod later ask for a binding, as the environment
// of a container does.
func (p *Pod) Bind(b Binding) {
	if b != Bridge { // which nobody has to ask for
		p.Setenv("PODWIRE_BINDING", string(b))
	}
}

// The guest's own networks behind a pod, and the MAC of its gateway there, which is the
// pod.
var (
	guests4, guests6 = netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("fd10:0:2::/120")

	gatewayLinkLocal = netip.MustParseAddr("fe80::70:77ff:fe00:1") // of gatewayMAC (RFC 4291, appendix A)
)

const gatewayMAC = "02:70:77:00:00:01"

// Behind reports whether the guest is on a network of its own, behind the pod, which
// routes and translates. Otherwise it has the pod's place.
func (b Binding) Behind() bool { return b == Masquerade }

// Keeps reports whether the pod interface keeps its MAC and addresses while the guest
// runs.
func (b Binding) Keeps() bool { return b != Bridge }

// Guest is the address that the guest has, with its length, where the pod has one.
func (b Binding) Guest(own netip.Prefix) netip.Prefix {
	if !b.Behind() {
		return own
	}
	network := guests(own.Addr())
	return netip.PrefixFrom(network.Addr().Next().Next(), network.Bits())
}

// Gateway is the guest's gateway where a pod has one, as DHCPv4 tells of it. The IPv6
// one is to be had by its link-local address, too: see Router.
func (b Binding) Gateway(of netip.Addr) netip.Addr {
	if !b.Behind() {
		return of
	}
	return guests(of).Addr().Next()
}

// Router is the guest's IPv6 router where the pod's has a link-local address, with the
// router's MAC.
func (b Binding) Router(of netip.Addr, mac string) (addr netip.Addr, its string) {
	if !b.Behind() {
		return of, mac
	}
	return gatewayLinkLocal, gatewayMAC
}

func guests(of netip.Addr) netip.Prefix { return OfFamily(of, guests4, guests6) }
