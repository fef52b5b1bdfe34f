package pod

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// cniVersion is the newest that the plugins of all supported distributions
// speak: Ubuntu 22.04 has 0.9.1, from before CNI 1.0.
const cniVersion = "0.4.0"

// Network is the configuration of a CNI network: the JSON that a runtime gives
// to the plugin whose name is in "type".
type Network map[string]any

// BridgeNetwork is the network of the bridge plugin, as on a node of flannel or
// kindnet: pods on one L2, the bridge is their gateway.
func BridgeNetwork(subnet netip.Prefix, mtu int) Network {
	return Network{
		"cniVersion": cniVersion, "name": "bridge", "type": "bridge",
		"bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "mtu": mtu,
		"ipam": hostLocal(subnet),
		"dns":  map[string]any{},
	}
}

// And is the network with a subnet of the other family as well, so that each pod
// has an address of both.
func (n Network) And(subnet netip.Prefix) Network {
	both := maps.Clone(n)
	ipam := maps.Clone(n["ipam"].(map[string]any))
	ipam["ranges"] = append(slices.Clone(ipam["ranges"].([][]map[string]string)), ranges(subnet)...)
	if routes, ok := ipam["routes"].([]map[string]string); ok {
		ipam["routes"] = append(slices.Clone(routes), defaultRoute(subnet))
	}
	both["ipam"] = ipam
	return both
}

// With is the network with a setting of its plugin changed.
func (n Network) With(setting string, value any) Network {
	other := maps.Clone(n)
	other[setting] = value
	return other
}

// PTPNetwork is the network of the ptp plugin: a veth to the node alone, the
// pod's address on-link only by a route via the gateway.
func PTPNetwork(subnet netip.Prefix, mtu int) Network {
	ipam := hostLocal(subnet)
	ipam["routes"] = []map[string]string{defaultRoute(subnet)}
	return Network{"cniVersion": cniVersion, "name": "ptp", "type": "ptp", "mtu": mtu, "ipam": ipam}
}

// SlaveNetwork is the network of the macvlan or the ipvlan plugin: pods that share
// a link of the node.
func SlaveNetwork(plugin, master string, subnet netip.Prefix) Network {
	ipam := hostLocal(subnet)
	ipam["routes"] = []map[string]string{defaultRoute(subnet)}
	return Network{"cniVersion": cniVersion, "name": plugin, "type": plugin, "master": master, "ipam": ipam}
}

func hostLocal(subnet netip.Prefix) map[string]any {
	return map[string]any{
		"type": "host-local", "dataDir": "/run/cni/ipam",
		"ranges": ranges(subnet),
	}
}

func ranges(subnet netip.Prefix) [][]map[string]string {
	return [][]map[string]string{{{"subnet": subnet.Masked().String()}}}
}

func defaultRoute(subnet netip.Prefix) map[string]string {
	if subnet.Addr().Is4() {
		return map[string]string{"dst": "0.0.0.0/0"}
	}
	return map[string]string{"dst": "::/0"}
}

// cniPath are the directories that distributions and runtimes keep plugins in. One
// that they do not have is looked for in build/cni.
const cniPath = "/usr/lib/cni:/opt/cni/bin:/usr/libexec/cni"

// plugin runs a CNI plugin in the node, as a runtime does (CNI SPEC, "Execution
// protocol"), for one interface of a pod, and returns its result.
func (n *Node) plugin(ctx context.Context, command string, p *Pod, ifname string, network Network) ([]byte, error) {
	name, _ := network["type"].(string)
	dirs := n.dir.Build("cni") + ":" + cniPath
	path, err := findPlugin(name, dirs)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(network)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + p.Name(), "CNI_NETNS=" + netnsLink,
		"CNI_IFNAME=" + ifname, "CNI_PATH=" + dirs, "PATH=" + os.Getenv("PATH"),
	}
	cmd.Stdin = bytes.NewReader(config)
	// The node has a /proc of its own; the pod is not in there.
	netns, err := os.Open(p.NetNS())
	if err != nil {
		return nil, err
	}
	defer netns.Close()
	cmd.ExtraFiles = []*os.File{netns}
	out, err := n.RunCmd(cmd)
	if err != nil {
		return nil, cniError(name, command, out, err)
	}
	return []byte(out), nil
}

// netnsLink is the first of a command's extra files.
const netnsLink = "/proc/self/fd/3"

// cniError is what a plugin says on standard output when it fails.
func cniError(name, command, out string, err error) error {
	var said struct{ Msg, Details string }
	if json.Unmarshal([]byte(out), &said) == nil && said.Msg != "" {
		err = errors.New(said.Msg + " " + said.Details)
	}
	return fmt.Errorf("CNI plugin %q, %s: %w", name, command, err)
}

func findPlugin(name, dirs string) (string, error) {
	for _, dir := range filepath.SplitList(dirs) {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("CNI plugin %q is not in %s; hack/install.sh test installs it", name, dirs)
}
