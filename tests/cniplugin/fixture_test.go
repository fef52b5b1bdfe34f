package cniplugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/pod"
)

const (
	// cniVersion is the newest that the plugins of all supported distributions speak.
	cniVersion = "0.4.0"

	uid        = "0b0e5e0e-7c0f-4f5e-9a53-2a1f6b5c9d11"
	resolvConf = "search default.svc.cluster.local\nnameserver 10.96.0.10\n"
	podDir     = "/var/lib/kubelet/pods/" + uid
	volume     = podDir + "/volumes/kubernetes.io~empty-dir/podwire"
	stateDir   = "/run/podwire/cni"
)

// firsts are the plugins that make the pod's interface, in the configurations that the
// tests name. With ipMasq they leave rules behind that they find again by the pod's
// address.
var firsts = map[string]string{
	"dual": `{"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "mtu": 1450,
		"ipam": {"type": "host-local", "dataDir": "/run/cni/ipam", "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:10:244:1::/64"}]]}}`,
	"bridge": `{"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "ipMasq": true, "mtu": 1450,
		"ipam": {"type": "host-local", "dataDir": "/run/cni/ipam", "ranges": [[{"subnet": "10.244.1.0/24"}]]}}`,
	"ptp": `{"type": "ptp", "ipMasq": true, "mtu": 1450,
		"ipam": {"type": "host-local", "dataDir": "/run/cni/ipam", "ranges": [[{"subnet": "10.244.1.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}`,
}

const entry = `{"type": "podwire", "capabilities": {"io.kubernetes.cri.pod-annotations": true}}`

// asking are the annotations of a pod that asks to be wired.
func asking(more ...string) map[string]string {
	a := map[string]string{"podwire.io/wire": "true", "podwire.io/tap-owner": "107:107"}
	for i := 0; i < len(more); i += 2 {
		a["podwire.io/"+more[i]] = more[i+1]
	}
	return a
}

// onEach runs a test with each binding, as a subtest.
func onEach(t *testing.T, test func(t *testing.T, b pod.Binding)) {
	t.Helper()
	for _, b := range pod.Bindings {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

// askingFor are the annotations of a pod that asks to be wired with a binding.
func askingFor(b pod.Binding, more ...string) map[string]string {
	if b == pod.Bridge { // which nobody has to ask for
		return asking(more...)
	}
	return asking(append(more, "binding", string(b))...)
}

// made are the links that podwire makes in the pod.
func made(b pod.Binding) []string {
	if b == pod.Bridge {
		return []string{"tap-eth0", "pw-eth0"}
	}
	return []string{"tap-eth0"}
}

// guestOf is what the guest is told of its address and gateway in a pod of IPv4.
func guestOf(b pod.Binding, addr string) (ip, router string) {
	own := netip.PrefixFrom(netip.MustParseAddr(addr), 24)
	return b.Guest(own).Addr().String(), b.Gateway(own.Masked().Addr().Next()).String()
}

// world is a node with a container runtime.
type world struct {
	ctx  context.Context
	dir  checkout.Dir
	node *pod.Node
	cni  *libcni.CNIConfig
	path []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldFor(t, time.Minute)
}

// newWorldFor is newWorld for tests that take longer.
func newWorldFor(t *testing.T, limit time.Duration) *world {
	t.Helper()
	w := &world{}
	w.ctx, w.dir, w.node = pod.NewTestNode(t, limit)
	program, err := w.dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	w.path = []string{filepath.Dir(program), "/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}
	w.cni = libcni.NewCNIConfigWithCacheDir(w.path, t.TempDir(), &onNode{Space: w.node.Space})
	return w
}

// container is a pod's sandbox.
type container struct {
	*pod.Pod
	w    *world
	list *libcni.NetworkConfigList
	rt   *libcni.RuntimeConf
}

// sandbox makes one with no interface but lo, as a runtime does before it calls
// the plugins; annotations are the pod's.
func (w *world) sandbox(t *testing.T, first, entry, cniVersion string, annotations map[string]string) *container {
	t.Helper()
	const name = "vm-0"
	space, err := pod.NewSpace(name, w.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { space.Close() })
	netns := "/run/netns/" + name
	w.bind(t, space, netns)
	list, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil, `{"cniVersion": %q, "name": "pods", "plugins": [%s, %s]}`, cniVersion, firsts[first], entry))
	if err != nil {
		t.Fatal(err)
	}
	return &container{
		Pod: &pod.Pod{Space: space}, w: w, list: list,
		rt: &libcni.RuntimeConf{
			ContainerID: strings.Repeat("c0ffee00", 8), NetNS: netns, IfName: "eth0",
			Args: [][2]string{
				{"IgnoreUnknown", "1"},
				{"K8S_POD_NAMESPACE", "default"},
				{"K8S_POD_NAME", name},
				{"K8S_POD_UID", uid},
			},
			CapabilityArgs: map[string]any{"io.kubernetes.cri.pod-annotations": annotations},
		},
	}
}

// sandboxList is a list of the first plugin alone.
func (w *world) sandboxList(t *testing.T, first, cniVersion string) *libcni.NetworkConfigList {
	t.Helper()
	list, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil, `{"cniVersion": %q, "name": "pods", "plugins": [%s]}`, cniVersion, firsts[first]))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// links are those of the pod.
func (c *container) links(t *testing.T) string {
	t.Helper()
	out, err := c.Run(c.w.ctx, "ls", "/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(out)
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(b, a) })
	return strings.Join(names, " ")
}

// serve runs "podwire serve" in the pod until the function is called, and returns
// when it answers.
func (c *container) serve(t *testing.T, program string) func() {
	t.Helper()
	var log pod.Log
	cmd := exec.Command(program, "serve", "--ready-file", "/run/ready")
	cmd.Stderr = &log
	if err := c.Start(cmd); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if _, err := c.ReadFile("/run/ready"); err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("podwire serve ended: %v\n%s", err, log.String())
		case <-c.w.ctx.Done():
			t.Fatalf("podwire serve is not ready\n%s", log.String())
		case <-time.After(time.Millisecond):
		}
	}
	return func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	}
}

// speaks reports whether a plugin speaks a version of the specification.
func (w *world) speaks(t *testing.T, plugin, version string) bool {
	t.Helper()
	info, err := w.cni.GetVersionInfo(w.ctx, plugin)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(info.SupportedVersions(), version)
}

// bind gives a pod's namespace a path on the node.
func (w *world) bind(t *testing.T, space *pod.Space, path string) {
	t.Helper()
	file, err := os.Open(space.NetNS())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := w.node.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(w.ctx, "mount", "--no-canonicalize", "--bind", "/proc/self/fd/3", path)
	cmd.ExtraFiles = []*os.File{file}
	if _, err := w.node.RunCmd(cmd); err != nil {
		t.Fatal(err)
	}
}

// run runs a command on the node.
func (w *world) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := w.node.Run(w.ctx, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// makeVolume makes the pod's emptyDir, as the kubelet does for an fsGroup.
func (w *world) makeVolume(t *testing.T) {
	t.Helper()
	w.run(t, "mkdir", "-p", volume)
	w.run(t, "chown", "0:107", volume)
	w.run(t, "chmod", "2777", volume)
}

func (c *container) add() (*current.Result, error) {
	r, err := c.w.cni.AddNetworkList(c.w.ctx, c.list, c.rt)
	if err != nil {
		return nil, err
	}
	return current.GetResult(r)
}

func (c *container) mustAdd(t *testing.T) *current.Result {
	t.Helper()
	r, err := c.add()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (c *container) del() error { return c.w.cni.DelNetworkList(c.w.ctx, c.list, c.rt) }

func (c *container) mustDel(t *testing.T) {
	t.Helper()
	if err := c.del(); err != nil {
		t.Fatal(err)
	}
}

// rules are the node's rules of iptables that name an address of the pods.
func (w *world) rules(t *testing.T) string {
	t.Helper()
	var rules []string
	for line := range strings.Lines(w.run(t, "iptables-save")) {
		if strings.Contains(line, "10.244.1.") || strings.Contains(line, "CNI-") {
			rules = append(rules, line)
		}
	}
	return strings.Join(rules, "")
}

// left is what podwire left on the node.
func (w *world) left(t *testing.T) string {
	t.Helper()
	out, err := w.node.Run(w.ctx, "find", stateDir, "-mindepth", "1")
	if err != nil {
		return "" // not even the directory
	}
	return out
}

// wantNothingLeft checks that podwire left nothing on the node.
func (w *world) wantNothingLeft(t *testing.T) {
	t.Helper()
	if left := w.left(t); left != "" {
		t.Errorf("left on the node:\n%s", left)
	}
}

func podIP(t *testing.T, r *current.Result) netip.Prefix {
	t.Helper()
	if len(r.IPs) != 1 {
		t.Fatalf("addresses: %v", r.IPs)
	}
	return netip.MustParsePrefix(r.IPs[0].Address.String())
}

// wantCode checks the code of a plugin's error, and that it says something.
func wantCode(t *testing.T, err error, code uint, text string) {
	t.Helper()
	var failed *types.Error
	if !errors.As(err, &failed) {
		t.Fatalf("err = %v, want an error of CNI with the code %d", err, code)
	}
	if failed.Code != code || !strings.Contains(failed.Error(), text) {
		t.Errorf("err = %d %v, want %d and %q", failed.Code, failed, code, text)
	}
}
