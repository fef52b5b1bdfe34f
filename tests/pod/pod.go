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

// Pod is a set of namespaces with an interface that leads to the node.
type Pod struct {
	*Space
	node     *Node
	attach   map[string]Network // by interface
	results  map[string][]byte  // what the plugins returned, by interface
	Addr     netip.Prefix       // of eth0, the first
	Gateway  netip.Addr         // of eth0, the first
	Addrs    []netip.Prefix     // of eth0, all
	Gateways []netip.Addr       // of eth0, at most one of each family
}

func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}

// NewPod makes a pod of a CNI network, on eth0. Closing the node closes it.
func (n *Node) NewPod(ctx context.Context, name string, network Network) (*Pod, error) {
	return n.NewPodOn(ctx, name, "eth0", network, nil)
}

// NewPodOn is NewPod on another interface; what has to happen in the pod before the
// plugin runs is done by a function, which may be nil.
func (n *Node) NewPodOn(ctx context.Context, name, ifname string, network Network, before func(*Pod) error) (*Pod, error) {
	p, err := n.emptyPod(name)
	if err != nil {
		return nil, err
	}
	if before != nil {
		err = before(p)
	}
	if err == nil {
		p.Addr, p.Gateway, err = p.Attach(ctx, ifname, network)
	}
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
	p := &Pod{Space: space, node: n, attach: map[string]Network{}, results: map[string][]byte{}}
	n.pods = append(n.pods, p)
	return p, nil
}

// Attach has a CNI plugin add an interface to the pod, and returns its first address
// and gateway. The pod's Addrs and Gateways become those of that interface.
func (p *Pod) Attach(ctx context.Context, ifname string, network Network) (addr netip.Prefix, gateway netip.Addr, err error) {
	out, err := p.node.plugin(ctx, "ADD", p, ifname, network)
	if err != nil {
		return addr, gateway, err
	}
	p.attach[ifname], p.results[ifname] = network, out
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
	p.Addrs, p.Gateways = nil, nil
	for _, ip := range result.IPs {
		p.Addrs = append(p.Addrs, ip.Address)
		if ip.Gateway.IsValid() {
			p.Gateways = append(p.Gateways, ip.Gateway)
		}
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

// Check has the CNI plugin say whether an interface is still as it made it (CNI SPEC,
// "CHECK").
func (p *Pod) Check(ctx context.Context, ifname string) error {
	network := p.attach[ifname].With("prevResult", json.RawMessage(p.results[ifname]))
	_, err := p.node.plugin(ctx, "CHECK", p, ifname, network)
	return err
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
	"tc filter show dev eth0 egress",
	"tc filter show dev net1 ingress",
	"tc filter show dev net1 egress",
	"nft list ruleset",
	"grep -r . --include=forwarding --include=route_localnet /proc/sys/net/ipv4/conf",
	"grep -r . --include=forwarding --include=accept_ra /proc/sys/net/ipv6/conf",
}

// Dump returns all there is of the pod's network, as text to be compared.
func (p *Pod) Dump(ctx context.Context) (string, error) {
	var all strings.Builder
	for _, line := range dumps {
		words := strings.Fields(line)
		out, err := p.Run(ctx, words[0], words[1:]...)
		// A kernel without IPv6 or ingress qdiscs has nothing to show.
		if err != nil && !strings.HasPrefix(line, "ip -6") && !strings.HasSuffix(line, "ipv6/conf") && words[0] != "tc" {
			return "", err
		}
		fmt.Fprintf(&all, "$ %s\n%s", line, out)
	}
	return all.String(), nil
}
