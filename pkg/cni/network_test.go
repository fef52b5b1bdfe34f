package cni

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"
)

// parsed reads a configuration of which the given fields are not the usual ones.
func parsed(t *testing.T, fields string) Network {
	t.Helper()
	n, err := ParseNetwork([]byte(`{"cniVersion": "1.0.0", "name": "pods", "type": "podwire"` + fields + `}`))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func wantError(t *testing.T, err error, code uint, text string) {
	t.Helper()
	var e *types.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Error(), text) || strings.Contains(e.Error(), "\n") {
		t.Errorf("err = %#v, want %d with %q on one line", err, code, text)
	}
}

func TestFieldsOfCNIAndOfPodwireAreKnown(t *testing.T) {
	n := parsed(t, `, "capabilities": {"x": true}, "runtimeConfig": {"x": 1}, "args": {}, "ipam": {}, "dns": {},
		"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}], "cni.dev/anything": 1, "prevResult": null,
		"wire": "all", "namespaces": ["vms"], "settings": {"mtu": 1400}, "stateDir": "/run/x", "kubeletDir": "/k", "log": "/l", "disabledCheck": true`)
	if err := n.Validate(); err != nil {
		t.Error(err)
	}
	if n.Name != "pods" || n.Wire != WireAll || n.StateDir != "/run/x" || n.KubeletDir != "/k" || n.Log != "/l" || len(n.Valid) != 1 {
		t.Errorf("%+v", n)
	}
	d := parsed(t, "")
	if d.Wire != WireAnnotated || d.StateDir != DefaultStateDir || d.KubeletDir != DefaultKubeletDir {
		t.Errorf("defaults: %+v", d)
	}
}

func TestWrongConfigurationsAreRefused(t *testing.T) {
	tests := []struct{ fields, says string }{
		{`, "wier": "all"`, `"wier": want one of podwire's fields: wire, namespaces, settings, stateDir, kubeletDir, log`},
		{`, "Wire": "all"`, `"Wire"`},
		{`, "wire": "some"`, "want annotated or all"},
		{`, "stateDir": "run"`, "absolute"},
		{`, "stateDir": "/run/../etc"`, "absolute"},
		{`, "stateDir": "/var/lib/kubelet/podwire"`, "at most 21"},
		{`, "kubeletDir": "x"`, "kubeletDir"},
		{`, "log": "x"`, "log"},
		{`, "settings": {"mtu": "x"}`, `settings: mtu: "x": want a number`},
		{`, "settings": {"state-dir": "/x"}`, "want a setting: binding, mac"},
		{`, "settings": 7`, "an object of settings"},
		{`, "settings": {"mtu": 1400, "mtu": 1500}`, "want each setting once"},
		{`, "settings": {"vhost": true}`, `settings: vhost: "true": want on or off`},
		{`, "settings": {"dns": [["10.0.0.1"]]}`, "settings: dns: "},
		{`, "wire": "` + strings.Repeat("x", 10_000) + `"`, "xxx\": want annotated or all"},
	}
	for _, tt := range tests {
		wantError(t, parsed(t, tt.fields).Validate(), types.ErrInvalidNetworkConfig, tt.says)
	}
	_, err := ParseNetwork([]byte(`{"wire": 7}`))
	wantError(t, err, types.ErrDecodingFailure, "reading podwire's network configuration")
	_, err = ParseNetwork([]byte(`{`))
	wantError(t, err, types.ErrDecodingFailure, "reading podwire's network configuration")
}

func annotated(t *testing.T, fields string, annotations string) Network {
	t.Helper()
	return parsed(t, fields+`, "runtimeConfig": {"io.kubernetes.cri.pod-annotations": `+annotations+`}`)
}

func TestWhoAsks(t *testing.T) {
	inKubernetes := Pod{Namespace: "default", Name: "vm-0", UID: "u"}
	const all, vms = `, "wire": "all"`, `, "namespaces": ["vms"]`
	tests := []struct {
		fields, annotations string
		pod                 Pod
		want                Wish
	}{
		{"", `null`, inKubernetes, WishNothing},
		{"", `{}`, inKubernetes, WishNothing},
		{"", `{}`, Pod{}, WishNothing},
		{"", `{"podwire.io/mtu": "1400"}`, inKubernetes, WishNothing},
		{"", `{"podwire.io/wire": "true"}`, inKubernetes, WishAlways},
		{"", `{"podwire.io/wire": "false"}`, inKubernetes, WishNothing},
		{`, "namespaces": ["default"]`, `{"podwire.io/wire": "true"}`, inKubernetes, WishAlways},
		{vms, `{}`, inKubernetes, WishNothing},
		{vms, `{"podwire.io/wire": "false"}`, inKubernetes, WishNothing},

		{all, `{}`, Pod{}, WishAlways},
		{all, `{}`, inKubernetes, WishByVolume},
		{all, `{}`, Pod{Namespace: "default", Name: "vm-0"}, WishByVolume},
		{all, `{"podwire.io/wire": "true"}`, inKubernetes, WishAlways},
		{all, `{"podwire.io/wire": "false"}`, inKubernetes, WishNothing},
		{all + vms, `{}`, inKubernetes, WishNothing},
		{all + `, "namespaces": ["default"]`, `{}`, inKubernetes, WishByVolume},
	}
	for _, tt := range tests {
		if got, err := annotated(t, tt.fields, tt.annotations).Wish(tt.pod); err != nil || got != tt.want {
			t.Errorf("%s %s %v: %v, %v, want %v", tt.fields, tt.annotations, tt.pod, got, err, tt.want)
		}
	}
	_, err := annotated(t, "", `{"podwire.io/wire": "yes"}`).Wish(Pod{})
	wantError(t, err, CodePod, `annotation podwire.io/wire: "yes": want true or false`)
	_, err = annotated(t, "", `{"podwire.io/wire": ""}`).Wish(Pod{})
	wantError(t, err, CodePod, "want true or false")
	for _, fields := range []string{vms, all + vms} {
		_, err = annotated(t, fields, `{"podwire.io/wire": "true"}`).Wish(inKubernetes)
		wantError(t, err, CodePod, "vms")
	}
}

func TestAnnotationsBeatTheNodesSettings(t *testing.T) {
	c, err := annotated(t, `, "settings": {"mtu": 1400, "hostname": "node-says", "lease-time": "1h"}`,
		`{"podwire.io/wire": "true", "podwire.io/hostname": "pod-says"}`).Config()
	if err != nil || c.MTU != 1400 || c.Hostname != "pod-says" || c.LeaseTime.Hours() != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, settings := range []string{`null`, `{"boot-file": "http:\/\/a\u002eexample"}`} {
		c, err := annotated(t, `, "settings": `+settings, `{}`).Config()
		if err != nil || settings != "null" && c.BootFile != "http://a.example" {
			t.Errorf("%s: %q, %v", settings, c.BootFile, err)
		}
	}
	_, err = annotated(t, "", `{"podwire.io/mtu": "x"}`).Config()
	wantError(t, err, CodePod, `annotation podwire.io/mtu: "x": want a number`)
}

func TestArgs(t *testing.T) {
	p, err := ParseArgs("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=vm-0;K8S_POD_UID=0b0e-5E;X=a=b;")
	if diff := cmp.Diff(Pod{"default", "vm-0", "0b0e-5E"}, p); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if want := "pods/0b0e-5E/volumes/kubernetes.io~empty-dir/podwire"; p.StateVolume() != want {
		t.Errorf("volume %s", p.StateVolume())
	}
	if p, err := ParseArgs(""); err != nil || p != (Pod{}) || p.String() != "" {
		t.Errorf("%+v, %v", p, err)
	}
	for _, args := range []string{"x", "K8S_POD_UID=../../etc", "K8S_POD_UID=a/b", "K8S_POD_UID=..", "K8S_POD_UID=" + strings.Repeat("a", 65)} {
		_, err := ParseArgs(args)
		wantError(t, err, types.ErrInvalidEnvironmentVariables, "")
	}
}

func TestContainersIDsAreNamesOfDirectories(t *testing.T) {
	for id, want := range map[string]bool{
		strings.Repeat("c0ffee00", 8): true, "a": true, "cnitool-77.1_x": true,
		"": false, ".": false, "..": false, ".hidden": false, "a/b": false, "a\x00b": false, "a b": false, "ä": false,
		strings.Repeat("a", 129): false,
	} {
		if ValidID(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}

func TestWhoIsHandedTheState(t *testing.T) {
	all, annotated := parsed(t, `, "wire": "all"`), parsed(t, "")
	for _, tt := range []struct {
		n    Network
		uid  string
		want bool
	}{{all, "", false}, {all, "u", true}, {annotated, "u", true}} {
		if got, err := tt.n.Published(Pod{UID: tt.uid}); got != tt.want || err != nil {
			t.Errorf("%s %q: %v, %v", tt.n.Wire, tt.uid, got, err)
		}
	}
	_, err := annotated.Published(Pod{})
	wantError(t, err, CodePod, "K8S_POD_UID")
	_, err = all.Published(Pod{Namespace: "default", Name: "vm-0"})
	wantError(t, err, CodePod, "K8S_POD_UID")
	wantError(t, ErrNoVolume, CodePod, "volumes: [{name: podwire, emptyDir: {}}]")
}

const previous = `{"cniVersion": %q, "interfaces": [{"name": "cni0"}, {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/a"}],
	"ips": [{%s"interface": 1, "address": "10.244.1.2/24", "gateway": "10.244.1.1"}], "routes": [{"dst": "0.0.0.0/0"}], "dns": {"nameservers": ["10.96.0.10"]}}`

// TestResultKeepsWhatWasThere, in each version of the specification.
func TestResultKeepsWhatWasThere(t *testing.T) {
	for _, version := range Versions.SupportedVersions() {
		ip := ""
		if version < "1" {
			ip = `"version": "4", `
		}
		n, err := ParseNetwork(fmt.Appendf(nil, `{"cniVersion": %q, "name": "pods", "type": "podwire", "prevResult": `+previous+`}`, version, version, ip))
		if err != nil {
			t.Fatal(err)
		}
		prev, err := n.Previous()
		if err != nil {
			t.Fatal(version, err)
		}
		r, err := Result(prev, "/run/netns/a", Link{"tap-eth0", "02:00:00:00:00:02", 1450}, Link{"pw-eth0", "02:00:00:00:00:03", 1450})
		if err != nil {
			t.Fatal(version, err)
		}
		out, err := r.GetAsVersion(version)
		if err != nil {
			t.Fatal(version, err)
		}
		got, err := current.NewResultFromResult(out)
		if err != nil {
			t.Fatal(version, err)
		}
		var names []string
		for _, i := range got.Interfaces {
			names = append(names, i.Name+" "+i.Sandbox)
		}
		want := []string{"cni0 ", "eth0 /run/netns/a", "tap-eth0 /run/netns/a", "pw-eth0 /run/netns/a"}
		if diff := cmp.Diff(want, names); diff != "" || out.Version() != version {
			t.Errorf("%s as %s: interfaces (-want +got):\n%s", version, out.Version(), diff)
		}
		if len(got.IPs) != 1 || *got.IPs[0].Interface != 1 || got.IPs[0].Address.String() != "10.244.1.2/24" || len(got.Routes) != 1 || len(got.DNS.Nameservers) != 1 {
			t.Errorf("%s: %+v", version, got)
		}
	}
}

func TestPodwireComesAfterAnother(t *testing.T) {
	for _, fields := range []string{"", `, "prevResult": null`} {
		_, err := parsed(t, fields).Previous()
		wantError(t, err, types.ErrInvalidNetworkConfig, "list it after the plugin that makes the pod's interface")
	}
	_, err := parsed(t, `, "prevResult": {"cniVersion": "1.0.0", "ips": "none"}`).Previous()
	wantError(t, err, types.ErrDecodingFailure, "prevResult")
}

func FuzzNetwork(f *testing.F) {
	f.Add([]byte(`{"cniVersion": "1.0.0", "name": "pods", "type": "podwire", "prevResult": {"cniVersion": "1.0.0"}}`), "K8S_POD_UID=u")
	f.Fuzz(func(_ *testing.T, text []byte, args string) {
		n, err := ParseNetwork(text)
		if err != nil {
			return
		}
		p, _ := ParseArgs(args)
		_ = n.Validate()
		_, _ = n.Wish(p)
		_, _ = n.Config()
	})
}
