package cniplugin

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
)

// TestPodThatAsksIsWired goes the whole way: ADD, a guest that gets the pod's
// address by a server in the pod, DEL.
func TestPodThatAsksIsWired(t *testing.T) {
	for _, first := range []string{"bridge", "ptp"} {
		for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
			t.Run(first+" "+version, func(t *testing.T) {
				t.Parallel()
				onEach(t, func(t *testing.T, b pod.Binding) {
					if b != pod.Bridge && version != cniVersion {
						return // that is none of the binding's business
					}
					isWired(t, b, first, version)
				})
			})
		}
	}
}

func isWired(t *testing.T, b pod.Binding, first, version string) {
	t.Helper()
	w := newWorld(t)
	if !w.speaks(t, first, version) {
		return
	}
	w.makeVolume(t)
	c := w.sandbox(t, first, entry, version, askingFor(b, "lease-time", "1h"))
	before := w.rules(t)
	r := c.mustAdd(t)
	if w.rules(t) == before {
		t.Fatal("the first plugin left no rules: nothing to look for after DEL")
	}
	wantResult(t, c, r, b)
	ip, router := guestOf(b, "10.244.1.2")
	wantServed(t, c, map[string]string{
		"ip": ip, "router": router, "mtu": "1450", "lease": "3600",
		"hostname": "vm-0", "dns": "10.96.0.10", "search": "default.svc.cluster.local",
	})
	c.mustDel(t)
	if diff := cmp.Diff(before, w.rules(t)); diff != "" {
		t.Errorf("rules of iptables after DEL (-before +after):\n%s", diff)
	}
	w.wantNothingLeft(t)
	c.mustDel(t)
}

// wantResult: the pod's address is still that of eth0, where a runtime takes it
// from.
func wantResult(t *testing.T, c *container, r *current.Result, b pod.Binding) {
	t.Helper()
	addr := podIP(t, r)
	if addr.String() != "10.244.1.2/24" {
		t.Errorf("the pod's address is %s", addr)
	}
	of := r.Interfaces[*r.IPs[0].Interface]
	if of.Name != "eth0" || of.Sandbox != c.rt.NetNS {
		t.Errorf("the address is that of %+v", of)
	}
	var inside []string
	for _, i := range r.Interfaces {
		if i.Sandbox == c.rt.NetNS {
			inside = append(inside, i.Name)
		}
	}
	if diff := cmp.Diff(append([]string{"eth0"}, made(b)...), inside); diff != "" {
		t.Errorf("interfaces in the sandbox (-want +got):\n%s", diff)
	}
}

// wantServed runs the server in the pod, on what was published for it, and a DHCP
// client on the tap.
func wantServed(t *testing.T, c *container, want map[string]string) {
	t.Helper()
	w := c.w
	if mode := strings.TrimSpace(w.run(t, "stat", "-c", "%a %u:%g", volume+"/eth0.json")); mode != "640 0:107" {
		t.Errorf("the published state is %s", mode)
	}
	state, err := w.node.ReadFile(volume + "/eth0.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WriteFile("/run/podwire/eth0.json", state, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := c.SetResolvConf(resolvConf); err != nil {
		t.Fatal(err)
	}
	program, err := w.dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	stop := c.serve(t, program)
	defer stop()
	guest, err := pod.NewSpace("guest", w.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	var published struct {
		Interface struct{ Mac string }
	}
	if err := json.Unmarshal(state, &published); err != nil {
		t.Fatal(err)
	}
	mac := published.Interface.Mac // not always that of eth0: libvirt refuses some
	tap, err := wire.Connect(w.ctx, c.Space, "tap-eth0", guest, "nic0", mac, 1450)
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	dhcp, err := client.Udhcpc(guest, w.dir, "nic0")
	if err != nil {
		t.Fatal(err)
	}
	defer dhcp.Stop()
	event, err := dhcp.Wait(w.ctx, "bound")
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), time.Second)
		defer cancel()
		out, failed := c.Run(ctx, program, "status")
		t.Fatalf("%v\non the tap of the guest with %s: %v\n%s%v", err, mac, tap.Counts(), out, failed)
	}
	got := map[string]string{}
	for key := range want {
		got[key] = event.Told[key]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the guest was told (-want +got):\n%s", diff)
	}
	if err := guest.Ping(w.ctx, pod.Outside); err != nil {
		t.Error(err)
	}
	out, err := c.Run(w.ctx, program, "status")
	if err != nil || !strings.Contains(out, "10.96.0.10") || !strings.Contains(out, "vm-0") {
		t.Errorf("podwire status: %v\n%s", err, out)
	}
}

// TestPodThatDoesNotAskIsUntouched, also where its other annotations make no sense.
func TestPodThatDoesNotAskIsUntouched(t *testing.T) {
	t.Parallel()
	for name, annotations := range map[string]map[string]string{
		"without annotations": nil,
		"asking for nothing":  {"podwire.io/mtu": "not looked at"},
		"asking not to be":    {"podwire.io/wire": "false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.sandbox(t, "bridge", entry, cniVersion, annotations)
			r := c.mustAdd(t)
			if n := len(r.Interfaces); n != 3 || podIP(t, r).String() != "10.244.1.2/24" {
				t.Errorf("the result has %d interfaces: %v", n, r)
			}
			if links := c.links(t); links != "lo eth0" {
				t.Errorf("the pod has the links %s", links)
			}
			w.wantNothingLeft(t)
			if err := c.w.cni.CheckNetworkList(w.ctx, c.list, c.rt); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			c.mustDel(t)
		})
	}
}

// TestRefusalsLeaveThePodAlone: what cannot be done is said before anything is.
func TestRefusalsLeaveThePodAlone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		annotations map[string]string
		change      func(*container)
		volume      bool
		code        uint
		says        string
	}{
		{"no volume", asking(), nil, false, 100, "volumes: [{name: podwire, emptyDir: {}}]"},
		{"no pod", asking(), func(c *container) { c.rt.Args = nil }, true, 100, "K8S_POD_UID"},
		{"a path for a pod", asking(), func(c *container) { c.rt.Args[3][1] = "../../etc" }, true, 4, "no UID"},
		{"a wrong value", asking("mtu", "9000000"), nil, true, 100, "annotation podwire.io/mtu: \"9000000\": want a number of octets from 68 to 65535"},
		{"more than the link carries", asking("mtu", "9000"), nil, true, 101, "1450 octets"},
		{"a path of the node", asking("state-dir", "/etc"), nil, true, 100, "annotation podwire.io/state-dir"},
		{"a setting that is none", asking("colour", "red"), nil, true, 100, "want one of podwire's annotations: wire, binding, mac"},
		{"half a yes", map[string]string{"podwire.io/wire": "yes"}, nil, true, 100, "want true or false"},
		{"the node's own network", asking(), func(c *container) { c.rt.NetNS = "/proc/self/ns/net" }, true, 8, "node's own network"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.makeVolume(t)
			if !tt.volume {
				w.run(t, "rmdir", volume)
			}
			c := w.sandbox(t, "bridge", entry, cniVersion, tt.annotations)
			bare := w.sandboxList(t, "bridge", cniVersion)
			if _, err := w.cni.AddNetworkList(w.ctx, bare, c.rt); err != nil {
				t.Fatal(err)
			}
			before := c.settled(t)
			if tt.change != nil {
				tt.change(c)
			}
			wantCode(t, c.addPodwire(t, bare), tt.code, tt.says)
			if diff := cmp.Diff(before, c.settled(t)); diff != "" {
				t.Errorf("the pod's network (-before +after):\n%s", diff)
			}
			w.wantNothingLeft(t)
		})
	}
}

// TestWhatAPodPutIntoItsVolumeIsNotFollowed: nothing outside is written, and nothing
// in there is believed.
func TestWhatAPodPutIntoItsVolumeIsNotFollowed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		make  []string
		fails string
	}{
		"a link out of it":         {[]string{"ln", "-s", "/run/secret", volume + "/eth0.json"}, ""},
		"a pipe":                   {[]string{"mkfifo", volume + "/eth0.json"}, ""},
		"a directory":              {[]string{"mkdir", "-p", volume + "/eth0.json/x"}, "writing the state into the pod's volume"},
		"a full one":               {[]string{"mount", "-t", "tmpfs", "-o", "size=4096", "tmpfs", volume}, "writing the state into the pod's volume"},
		"a link in place of it":    {[]string{"sh", "-c", "rmdir " + volume + "; ln -s /run " + volume}, "not a directory"},
		"a link in a higher place": {[]string{"sh", "-c", "rm -r " + podDir + "; ln -s /run/other " + podDir + "; mkdir -p /run/other/volumes/kubernetes.io~empty-dir/podwire"}, "escapes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.makeVolume(t)
			w.run(t, tt.make[0], tt.make[1:]...)
			if err := w.node.WriteFile("/run/secret", []byte("untouched"), 0o600); err != nil {
				t.Fatal(err)
			}
			c := w.sandbox(t, "bridge", entry, cniVersion, asking())
			_, err := c.add()
			if tt.fails != "" {
				wantCode(t, err, 100, tt.fails)
				if links := c.links(t); links != "lo eth0" {
					t.Errorf("the pod has the links %s", links)
				}
			} else if err != nil {
				t.Error(err)
			}
			if text, _ := w.node.ReadFile("/run/secret"); string(text) != "untouched" {
				t.Errorf("a file of the node is %q", text)
			}
			if mode := strings.TrimSpace(w.run(t, "stat", "-c", "%a", "/run/secret")); mode != "600" {
				t.Errorf("a file of the node has the mode %s", mode)
			}
			c.mustDel(t)
		})
	}
}
