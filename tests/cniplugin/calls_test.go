package cniplugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/podwire/podwire/tests/pod"
)

// onNode runs plugins in the node's namespaces.
type onNode struct {
	*pod.Space
	version.PluginDecoder
}

func (n *onNode) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stderr = environ, bytes.NewReader(stdin), &stderr
	out, err := n.RunCmd(cmd)
	if err == nil {
		return []byte(out), nil
	}
	var said types.Error
	if json.Unmarshal([]byte(out), &said) == nil && said.Msg != "" {
		return nil, &said
	}
	return nil, fmt.Errorf("%w: %s %s", err, out, &stderr)
}

func (n *onNode) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}

// call calls podwire alone, as the specification says, in its newest version, which
// the plugins of distributions do not speak yet. More are further fields of the
// configuration.
func (c *container) call(t *testing.T, command string, more map[string]any) error {
	t.Helper()
	return c.exec(c.command(t, command, more))
}

func (c *container) exec(call pluginCall) error {
	_, err := (&onNode{Space: c.w.node.Space}).ExecPlugin(c.w.ctx, call.program, call.stdin, call.environ)
	return err
}

// pluginCall is a call of podwire alone.
type pluginCall struct {
	program string
	environ []string
	stdin   []byte
}

func (c *container) command(t *testing.T, command string, more map[string]any) pluginCall {
	t.Helper()
	program, err := c.w.dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	conf := map[string]any{"cniVersion": "1.1.0", "name": c.list.Name, "type": "podwire"}
	maps.Copy(conf, more)
	text, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, pair := range c.rt.Args {
		args = append(args, pair[0]+"="+pair[1])
	}
	return pluginCall{program: program, stdin: text, environ: []string{
		"CNI_COMMAND=" + command, "CNI_PATH=/usr/lib/cni", "CNI_CONTAINERID=" + c.rt.ContainerID, "CNI_ARGS=" + strings.Join(args, ";"),
		"CNI_NETNS=" + c.rt.NetNS, "CNI_IFNAME=" + c.rt.IfName, "PATH=" + os.Getenv("PATH"),
	}}
}

// asksFor are the further fields of an ADD of a pod with these annotations, after the
// plugins of a list.
func (c *container) asksFor(t *testing.T, before *libcni.NetworkConfigList, annotations map[string]string) map[string]any {
	t.Helper()
	previous, err := c.w.cni.GetNetworkListCachedResult(before, c.rt)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"cniVersion": cniVersion, "prevResult": previous,
		"runtimeConfig": c.annotations(annotations),
	}
}

// annotations is how a runtime hands over those of a pod.
func (c *container) annotations(of map[string]string) map[string]any {
	return map[string]any{"io.kubernetes.cri.pod-annotations": of}
}

// addPodwire calls podwire alone, on the result of a list before it.
func (c *container) addPodwire(t *testing.T, before *libcni.NetworkConfigList) error {
	t.Helper()
	rt := *c.rt
	rt.NetNS = "/run/netns/" + c.Name()
	previous, err := c.w.cni.GetNetworkListCachedResult(before, &rt)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := libcni.InjectConf(c.list.Plugins[1], map[string]any{
		"name": c.list.Name, "cniVersion": c.list.CNIVersion, "prevResult": previous, "runtimeConfig": c.rt.CapabilityArgs,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.w.cni.AddNetwork(c.w.ctx, conf, c.rt)
	return err
}
