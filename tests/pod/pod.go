package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Pod is a set of namespaces with an eth0 that leads to the node.
type Pod struct {
	*Space
	node    *Node
	attach  map[string]Network // by interface
	Addr    netip.Prefix       // of eth0
	Gateway netip.Addr         // of eth0
}

func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}

// NewPod makes a pod of a CNI network, on eth0. Closing the node closes it.
func (n *Node) NewPod(ctx context.Context, name string, network Network) (*Pod, error) {
	p, err := n.emptyPod(name)
	if err != nil {
		return nil, err
	}
	p.Addr, p.Gateway, err = p.Attach(ctx, "eth0", network)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making pod %q: %w", name, err), p.Close())
	}
	return p, nil
}

func (n *Node) emptyPod(name string) (*Pod, error) {
	space, err := NewSpace(name, n.dir)
	if err != nil {
		return nil, err
	}
	p := &Pod{Space: space, node: n, attach: map[string]Network{}}
	n.pods = append(n.pods, p)
	return p, nil
}

// Attach has a CNI plugin add an interface to the pod, and returns its address
// and gateway.
func (p *Pod) Attach(ctx context.Context, ifname string, network Network) (addr netip.Prefix, gateway netip.Addr, err error) {
	out, err := p.node.plugin(ctx, "ADD", p, ifname, network)
	if err != nil {
		return addr, gateway, err
	}
	p.attach[ifname] = network
	var result struct {
		IPs []struct {
			Address netip.Prefix `json:"address"`
			Gateway netip.Addr   `json:"gateway"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return addr, gateway, fmt.Errorf("reading what CNI plugin %q returned: %w", network["type"], err)
	}
	if len(result.IPs) == 0 {
		return addr, gateway, fmt.Errorf("CNI plugin %q gave no address", network["type"])
	}
	return result.IPs[0].Address, result.IPs[0].Gateway, nil
}

// Detach has the CNI plugin take an interface away, as a runtime does when the
// pod goes.
func (p *Pod) Detach(ctx context.Context, ifname string) error {
	_, err := p.node.plugin(ctx, "DEL", p, ifname, p.attach[ifname])
	delete(p.attach, ifname)
	return err
}

// calicoGateway is the next hop of every Calico pod. No link has it: the node
// answers ARP for it by proxy.
var calicoGateway = netip.MustParseAddr("169.254.1.1")

// NewCalicoPod makes a pod of Calico's shape by hand: an address of its own with
// no network around it, and a gateway that is on no network at all.
func (n *Node) NewCalicoPod(ctx context.Context, name string, addr netip.Addr, mtu int) (*Pod, error) {
	p, err := n.emptyPod(name)
	if err != nil {
		return nil, err
	}
	p.Addr, p.Gateway = netip.PrefixFrom(addr, addr.BitLen()), calicoGateway
	host := fmt.Sprintf("cali%d", len(n.pods))
	steps := []func() error{
		func() error { return n.Veth(ctx, host, p.Space, "eth0") },
		func() error { return n.IP(ctx, "link set %s mtu %d up", host, mtu) },
		func() error { return n.Sysctl("net/ipv4/conf/"+host+"/proxy_arp", "1") },
		func() error { return n.Sysctl("net/ipv4/neigh/"+host+"/proxy_delay", "0") },
		func() error { return p.IP(ctx, "link set eth0 mtu %d up", mtu) },
		func() error { return p.IP(ctx, "address add %s dev eth0", p.Addr) },
		func() error { return p.IP(ctx, "route add %s dev eth0 scope link", calicoGateway) },
		func() error { return p.IP(ctx, "route add default via %s dev eth0", calicoGateway) },
		func() error { return n.IP(ctx, "route add %s dev %s scope link", addr, host) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, errors.Join(fmt.Errorf("making pod %q: %w", name, err), p.Close())
		}
	}
	return p, nil
}

// Sysctl sets a file below /proc/sys of the space.
func (s *Space) Sysctl(name, value string) error {
	return s.Do(func() error { return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0) })
}

// SetResolvConf gives the pod its /etc/resolv.conf, as the kubelet does.
func (p *Pod) SetResolvConf(content string) error {
	const path = "/etc/resolv.conf"
	link, err := os.Readlink(path)
	if err != nil {
		return p.Overlay(path, []byte(content))
	}
	// A link into /run, as systemd-resolved has it, leads nowhere in here.
	if !filepath.IsAbs(link) {
		link = filepath.Join(filepath.Dir(path), link)
	}
	return p.WriteFile(link, []byte(content), 0o644)
}

// dumps are the commands whose output is the whole of a pod's network. What
// comes and goes by itself is left out: counters, and neighbours that were
// learned.
var dumps = []string{
	"ip -details address show",
	"ip -4 route show table all",
	"ip -6 route show table all",
	"ip rule show",
	"ip -6 rule show",
	"ip neighbour show nud permanent",
	"tc qdisc show",
	"tc filter show dev eth0 ingress",
	"nft list ruleset",
}

// Dump returns all there is of the pod's network, as text to be compared.
func (p *Pod) Dump(ctx context.Context) (string, error) {
	var all strings.Builder
	for _, line := range dumps {
		words := strings.Fields(line)
		out, err := p.Run(ctx, words[0], words[1:]...)
		// A kernel without IPv6 or ingress qdiscs has nothing to show.
		if err != nil && !strings.HasPrefix(line, "ip -6") && words[0] != "tc" {
			return "", err
		}
		fmt.Fprintf(&all, "$ %s\n%s", line, out)
	}
	return all.String(), nil
}
