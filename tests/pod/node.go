package pod

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/podwire/podwire/tests/checkout"
)

// Node stands for a machine of a cluster: it routes between its pods and the
// outside, a host on a network of its own.
type Node struct {
	*Space
	outside *Space
	pods    []*Pod
	answers []*responder
}

// Outside and Outside6 are the addresses of a host beyond the node, which no pod
// shares a network with. It knows of pods only that the node is the way to them.
var (
	Outside  = netip.MustParseAddr("198.51.100.7") // TEST-NET-2, RFC 5737
	Outside6 = netip.MustParseAddr("2001:db8:51::7")
)

// NodeOutside and NodeOutside6 are the node's own addresses on that network.
var (
	NodeOutside  = netip.MustParseAddr("198.51.100.1")
	NodeOutside6 = netip.MustParseAddr("2001:db8:51::1")
)

// NewNode makes a node, and the host outside. The caller closes it.
func NewNode(ctx context.Context, dir checkout.Dir) (*Node, error) {
	space, err := NewSpace("node", dir)
	if err != nil {
		return nil, err
	}
	n := &Node{Space: space}
	if err := n.addOutside(ctx); err != nil {
		n.Close()
		return nil, fmt.Errorf("making a node: %w", err)
	}
	return n, nil
}

func (n *Node) addOutside(ctx context.Context) (err error) {
	if n.outside, err = NewSpace("outside", n.dir); err != nil {
		return err
	}
	if err := errors.Join(n.forward(), n.outside.forward()); err != nil {
		return err
	}
	if err := n.Veth(ctx, "out0", n.outside, "eth0"); err != nil {
		return err
	}
	return errors.Join(
		n.IP(ctx, "address add %s/24 dev out0", NodeOutside),
		n.IP(ctx, "address add %s/64 dev out0 nodad", NodeOutside6),
		n.IP(ctx, "link set out0 up"),
		// Without a default route of its own, a node does not answer ARP by proxy.
		n.IP(ctx, "route add default via %s", Outside),
		n.IP(ctx, "route add default via %s", Outside6),
		n.outside.IP(ctx, "address add %s/24 dev eth0", Outside),
		n.outside.IP(ctx, "address add %s/64 dev eth0 nodad", Outside6),
		n.outside.IP(ctx, "link set eth0 up"),
		n.outside.IP(ctx, "route add default via %s", NodeOutside),
		n.outside.IP(ctx, "route add default via %s", NodeOutside6),
	)
}

// forward makes the space a router, of both families. Links that it gets later have
// their link-local addresses at once: without one, a router asks for no neighbour.
func (s *Space) forward() error {
	return errors.Join(
		s.Sysctl("net/ipv6/conf/default/accept_dad", "0"),
		s.Sysctl("net/ipv4/ip_forward", "1"),
		s.Sysctl("net/ipv6/conf/all/forwarding", "1"),
	)
}

// NewRoutedPod makes a pod of the host outside, as if that were another node of the
// cluster: pods reach it by a route of their node's. Closing the node closes it.
func (n *Node) NewRoutedPod(ctx context.Context, name string, addrs ...netip.Addr) (*Pod, error) {
	p, err := n.handMade(ctx, n.outside, name, Calico, addrs, 1500)
	if err != nil {
		return nil, err
	}
	for _, addr := range addrs {
		err = errors.Join(err, n.IP(ctx, "route add %s via %s", addr, OfFamily(addr, Outside, Outside6)))
	}
	return p, err
}

// OfFamily returns the one that is of the same family as an address.
func OfFamily[T any](addr netip.Addr, ipv4, ipv6 T) T {
	if addr.Is4() {
		return ipv4
	}
	return ipv6
}

// Close ends the node, its pods, and the outside.
func (n *Node) Close() error {
	var errs []error
	for _, r := range n.answers {
		errs = append(errs, r.Close())
	}
	for _, p := range n.pods {
		errs = append(errs, p.Close())
	}
	if n.outside != nil {
		errs = append(errs, n.outside.Close())
	}
	return errors.Join(append(errs, n.Space.Close())...)
}

// OutsideHost is the host that has the address Outside.
func (n *Node) OutsideHost() *Space { return n.outside }

// IP runs ip(8) in the space, with the words of a format.
func (s *Space) IP(ctx context.Context, format string, args ...any) error {
	_, err := s.Run(ctx, "ip", strings.Fields(fmt.Sprintf(format, args...))...)
	return err
}

// script runs nft(8) in the space.
func (s *Space) script(ctx context.Context, rules string) error {
	cmd := command(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	_, err := s.RunCmd(cmd)
	return err
}

// Veth joins two spaces by a pair of links of the given names.
func (s *Space) Veth(ctx context.Context, name string, peer *Space, peerName string) error {
	netns, err := os.Open(peer.NetNS())
	if err != nil {
		return err
	}
	defer netns.Close()
	cmd := command(ctx, "ip", "link", "add", name, "type", "veth", "peer", "name", peerName, "netns", netnsLink)
	cmd.ExtraFiles = []*os.File{netns}
	_, err = s.RunCmd(cmd)
	return err
}
