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
}

// Outside is the address of a host beyond the node, which no pod shares a
// network with. It knows of pods only that the node is the way to them.
var Outside = netip.MustParseAddr("198.51.100.7") // TEST-NET-2, RFC 5737

// nodeOutside is the node's own address on that network.
var nodeOutside = netip.MustParseAddr("198.51.100.1")

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
	if err := n.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) }); err != nil {
		return err
	}
	if err := n.Veth(ctx, "out0", n.outside, "eth0"); err != nil {
		return err
	}
	return errors.Join(
		n.IP(ctx, "address add %s/24 dev out0", nodeOutside),
		n.IP(ctx, "link set out0 up"),
		// Without a default route of its own, a node does not answer ARP by proxy.
		n.IP(ctx, "route add default via %s", Outside),
		n.outside.IP(ctx, "address add %s/24 dev eth0", Outside),
		n.outside.IP(ctx, "link set eth0 up"),
		n.outside.IP(ctx, "route add default via %s", nodeOutside),
	)
}

// Close ends the node, its pods, and the outside.
func (n *Node) Close() error {
	var errs []error
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
