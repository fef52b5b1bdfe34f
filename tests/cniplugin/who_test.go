package cniplugin

import (
	"strings"
	"testing"

	"github.com/podwire/podwire/tests/pod"
)

// TestAllPodsOfARuntimeWithoutKubernetes: no annotations, no pod, nothing published.
func TestAllPodsOfARuntimeWithoutKubernetes(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t)
		c := w.sandbox(t, "bridge", `{"type": "podwire", "wire": "all", "settings": {"binding": "`+string(b)+`", "tap-owner": "107", "dns": "192.0.2.53", "lease-time": 3600}}`, cniVersion, nil)
		c.rt.Args, c.rt.CapabilityArgs = nil, nil
		c.mustAdd(t)
		state := w.run(t, "cat", stateDir+"/"+c.rt.ContainerID+"/eth0.json")
		for _, want := range []string{"192.0.2.53", `"uid": 107`, `"leaseTime": 3600`, `"hostUnknown": true`, `"binding": "` + string(b) + `"`} {
			if !strings.Contains(state, want) {
				t.Errorf("the state lacks %s:\n%s", want, state)
			}
		}
		c.mustDel(t)
	})
}

// TestAllPodsOfKubernetes: the volume is how a pod asks there. One without it is
// let through, since the node's own pods must start.
func TestAllPodsOfKubernetes(t *testing.T) {
	t.Parallel()
	const all = `{"type": "podwire", "wire": "all", "namespaces": ["default"], "capabilities": {"io.kubernetes.cri.pod-annotations": true}}`
	const untouched, done = "lo eth0", "tap-eth0 pw-eth0 lo eth0"
	senseless := map[string]string{"podwire.io/mtu": "x"}
	noVolume := func(t *testing.T, c *container) { c.w.run(t, "rmdir", volume) }
	tests := map[string]struct {
		annotations map[string]string
		change      func(*testing.T, *container)
		links       string
		fails       string
	}{
		"with the volume":      {nil, nil, done, ""},
		"without the volume":   {nil, noVolume, untouched, ""},
		"not known which pod":  {nil, func(_ *testing.T, c *container) { c.rt.Args = c.rt.Args[:3] }, untouched, ""},
		"of another namespace": {nil, func(_ *testing.T, c *container) { c.rt.Args[1][1] = "kube-system" }, untouched, ""},
		"refusing":             {map[string]string{"podwire.io/wire": "false"}, nil, untouched, ""},
		"with settings that make no sense and no volume": {senseless, noVolume, untouched, ""},
		"of a kubelet that is elsewhere": {nil, func(t *testing.T, c *container) {
			c.w.run(t, "sh", "-c", "mv /var/lib/kubelet/pods /run/pods; ln -s /run/pods /var/lib/kubelet/pods")
		}, untouched, ""},
		"asking without the volume":     {asking(), noVolume, untouched, "volumes: [{name: podwire"},
		"asking from another namespace": {asking(), func(_ *testing.T, c *container) { c.rt.Args[1][1] = "kube-system" }, untouched, "are not wired on this node"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.makeVolume(t)
			c := w.sandbox(t, "bridge", all, cniVersion, tt.annotations)
			if tt.change != nil {
				tt.change(t, c)
			}
			_, err := c.add()
			if tt.fails != "" {
				wantCode(t, err, 100, tt.fails)
			} else if err != nil {
				t.Error(err)
			}
			if links := c.links(t); links != tt.links {
				t.Errorf("the pod has the links %s, want %s", links, tt.links)
			}
			if tt.fails == "" {
				fields := map[string]any{"wire": "all", "namespaces": []string{"default"}, "runtimeConfig": c.annotations(tt.annotations)}
				if err := c.call(t, "CHECK", fields); err != nil {
					t.Errorf("CHECK: %v", err)
				}
			}
			c.mustDel(t)
			w.wantNothingLeft(t)
		})
	}
}

func TestNamespacesThatMayAsk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.makeVolume(t)
	c := w.sandbox(t, "bridge", `{"type": "podwire", "namespaces": ["vms"], "capabilities": {"io.kubernetes.cri.pod-annotations": true}}`, cniVersion, asking())
	_, err := c.add()
	wantCode(t, err, 100, `pods of the namespace "default" are not wired on this node, but those of vms`)
	c.mustDel(t)
	c.rt.Args[1][1] = "vms"
	c.mustAdd(t)
	c.mustDel(t)
}
