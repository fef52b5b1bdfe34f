package record

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/podwire/podwire/internal/planned"
	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
)

func example(t *testing.T) Record {
	t.Helper()
	s := shapes.AWS()
	c := config.Config{Binding: "bridge", Queues: 1, ResolvConf: "/etc/resolv.conf", Options: map[uint8]string{240: "x"}}
	p, l := planned.Eth0(t, s, c)
	return Record{
		Version: Version, Phase: Recorded, Config: c, Snapshot: s,
		Lease: l, Interface: p.Interface, Steps: p.Steps, Warnings: []string{"a warning"},
	}
}

func TestWhatIsSavedIsLoaded(t *testing.T) {
	d, want := Dir(t.TempDir()), example(t)
	for _, phase := range []Phase{Recorded, Applied, Undoing} {
		want.Phase = phase
		if err := d.Save(want); err != nil {
			t.Fatal(err)
		}
		got, err := d.Load("eth0")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", phase, diff)
		}
	}
	info, err := os.Stat(d.Path("eth0"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode = %v (%v), want 0640", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(string(d)); len(entries) != 1 {
		t.Errorf("the directory holds %v, want the state file alone", entries)
	}
}

// bound is the record of a pod interface of each binding.
func bound(t testing.TB, b config.Binding) Record {
	t.Helper()
	s, c := shapes.Dual(), config.Default()
	c.Binding = b
	if b == config.Macvtap {
		c.Binding = config.Bridge
		i := slices.IndexFunc(s.Links, func(l netstate.Link) bool { return l.Index == shapes.Index })
		s.Links[i].Kind = "macvtap"
	}
	p, l := planned.Eth0(t, s, c)
	return Record{Version: Version, Phase: Recorded, Config: c, Snapshot: s, Lease: l, Interface: p.Interface, Steps: p.Steps}
}

func TestEveryBindingIsLoaded(t *testing.T) {
	for _, b := range []config.Binding{config.Bridge, config.TC, config.Masquerade, config.Macvtap} {
		d, want := Dir(t.TempDir()), bound(t, b)
		if err := d.Save(want); err != nil {
			t.Fatal(err)
		}
		got, err := d.Load("eth0")
		if err != nil {
			t.Errorf("%s: %v", b, err)
		} else if diff := cmp.Diff(want.Steps, got.Steps, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", b, diff)
		}
	}
}

// TestStepsThatReachFurtherAreRefused: a state file is no way to another's links,
// tables or files.
func TestStepsThatReachFurtherAreRefused(t *testing.T) {
	tests := []struct {
		name    string
		binding config.Binding
		old     string
		with    string
	}{
		{"a redirect to elsewhere", config.TC, `"to":"eth0"`, `"to":"net1"`},
		{"a macvtap's tap", config.TC, `"tap":"tap-eth0"`, `"tap":"eth0"`},
		{"addresses of the pod interface", config.Masquerade, `"step":"add-addresses","with":{"link":"tap-eth0"`, `"step":"add-addresses","with":{"link":"eth0"`},
		{"another's table", config.Masquerade, `"table":"podwire-eth0"`, `"table":"kube-proxy"`},
		{"another option", config.Masquerade, `"option":"route_localnet"`, `"option":"rp_filter"`},
		{"an option that is a path", config.Masquerade, `"option":"forwarding"`, `"option":"../../../../kernel/core_pattern"`},
		{"an option of another link", config.Masquerade, `"link":"tap-eth0","option"`, `"link":"net1","option"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, err := json.Marshal(bound(t, tt.binding))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), tt.old) {
				t.Fatalf("%q is not in the state", tt.old)
			}
			d := Dir(t.TempDir())
			if err := os.WriteFile(d.Path("eth0"), []byte(strings.ReplaceAll(string(text), tt.old, tt.with)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Load("eth0"); !errors.Is(err, ErrDamaged) {
				t.Errorf("err = %v, want ErrDamaged", err)
			}
		})
	}
}

func TestNoRecord(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "none"))
	if _, err := d.Load("eth0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load: %v, want fs.ErrNotExist", err)
	}
	if names, err := d.List(); err != nil || len(names) != 0 {
		t.Errorf("List: %v, %v", names, err)
	}
}

func TestListRemoveAndSetAside(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "state"))
	if err := d.Create(); err != nil {
		t.Fatal(err)
	}
	r := example(t)
	if err := d.Save(r); err != nil {
		t.Fatal(err)
	}
	if names, err := d.List(); err != nil || len(names) != 1 || names[0] != "eth0" {
		t.Errorf("List: %v, %v", names, err)
	}
	aside, err := d.SetAside("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(aside); err != nil {
		t.Error(err)
	}
	if names, _ := d.List(); len(names) != 0 {
		t.Errorf("after SetAside: %v", names)
	}
	if err := d.Save(r); err != nil {
		t.Fatal(err)
	}
	for range 2 { // twice is fine
		if err := d.Remove("eth0"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamaged: a file that is not what podwire wrote is refused whole, and says
// so in a line that names it.
func TestDamaged(t *testing.T) {
	good, err := json.Marshal(example(t))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, with string) string {
		t.Helper()
		if !strings.Contains(string(good), old) {
			t.Fatalf("%q is not in the state", old)
		}
		return strings.ReplaceAll(string(good), old, with)
	}
	tests := map[string]string{
		"empty":              "",
		"cut off":            string(good[:len(good)/2]),
		"no JSON":            "\x00\x01\x02",
		"null":               "null",
		"another version":    edit(`"version":1`, `"version":2`),
		"unknown step":       edit(`"step":"set-mac"`, `"step":"set-fire"`),
		"step with more":     edit(`"step":"set-mac","with":{`, `"step":"set-mac","with":{"more":1,`),
		"more beside a step": edit(`"step":"set-mac",`, `"step":"set-mac","more":1,`),
		"more in an address": edit(`"addrs":[{`, `"addrs":[{"more":1,`),
		"unknown phase":      edit(`"phase":"recorded"`, `"phase":"x"`),
		"another interface":  edit(`"podInterface":"eth0"`, `"podInterface":"eth1"`),
		"another tap":        edit(`"tap":"tap-eth0"`, `"tap":"docker0"`),
		"step on another link": strings.Replace(string(good), `"step":"set-mac","with":{"link":"eth0"`,
			`"step":"set-mac","with":{"link":"eth9"`, 1),
		"bad address": edit(`"192.168.77.9/32"`, `"192.168.77.9/99"`),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			d := Dir(t.TempDir())
			if err := os.WriteFile(d.Path("eth0"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := d.Load("eth0")
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("err = %v, want ErrDamaged", err)
			}
			if !strings.Contains(err.Error(), d.Path("eth0")) || strings.Contains(err.Error(), "\n") {
				t.Errorf("err = %q, want one line that names the file", err)
			}
		})
	}
}

// TestWhatANewerReleaseAddedIsLeftAlone: the plugin on the node and the server in
// the pod are not updated together, and an update may be taken back.
func TestWhatANewerReleaseAddedIsLeftAlone(t *testing.T) {
	want := example(t)
	good, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{`"version":1`, `"config":{`, `"lease":{`, `"interface":{`, `"snapshot":{`, `"links":[{`} {
		field := `"more":{"x":[1]},`
		with := place + field
		if strings.HasPrefix(place, `"version"`) {
			with = field + place
		}
		if !strings.Contains(string(good), place) {
			t.Fatalf("%q is not in the state", place)
		}
		d := Dir(t.TempDir())
		if err := os.WriteFile(d.Path("eth0"), []byte(strings.Replace(string(good), place, with, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := d.Load("eth0")
		if err != nil {
			t.Errorf("more in %s: %v", place, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("more in %s (-want +got):\n%s", place, diff)
		}
	}
}

// TestAsides are found with the namespace that they are of, if they can be read.
func TestAsides(t *testing.T) {
	d, r := Dir(t.TempDir()), example(t)
	for n := range uint64(2) {
		r.Snapshot.NetNS.Inode = n + 1
		if err := d.Save(r); err != nil {
			t.Fatal(err)
		}
		if _, err := d.SetAside("eth0"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(d.Path("eth0")+".stale3", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := d.Asides("eth0")
	if err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	if got[0].NetNS.Inode != 1 || got[1].NetNS.Inode != 2 || got[2].NetNS != nil || got[2].Path != d.Path("eth0")+".stale3" {
		t.Errorf("%+v", got)
	}
	if got, err := d.Asides("eth1"); err != nil || len(got) != 0 {
		t.Errorf("of another interface: %v, %v", got, err)
	}
	if got, err := Dir(filepath.Join(string(d), "none")).Asides("eth0"); err != nil || len(got) != 0 {
		t.Errorf("without a directory: %v, %v", got, err)
	}
}

func TestALinkInPlaceOfTheFileIsRefused(t *testing.T) {
	d := Dir(t.TempDir())
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{d.Path("eth0"), d.Path("eth0") + ".tmp"} {
		if err := os.Symlink(other, name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Load("eth0"); !errors.Is(err, ErrDamaged) {
		t.Errorf("Load: %v, want ErrDamaged", err)
	}
	if err := d.Save(example(t)); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(other); string(text) != "keep" {
		t.Errorf("Save wrote through a link: %q", text)
	}
}

func TestADirectoryThatCannotBeWrittenIsAnError(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "gone"))
	if err := d.Save(example(t)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v, want fs.ErrNotExist", err)
	}
}

func TestTorn(t *testing.T) {
	d, r := Dir(t.TempDir()), example(t)
	if err := d.Save(r); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Path("net1")+".tmp", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if torn, err := d.Torn(); err != nil || !slices.Equal(torn, []string{"net1"}) {
		t.Errorf("torn = %v, %v", torn, err)
	}
	if err := d.Remove("net1"); err != nil {
		t.Fatal(err)
	}
	if torn, err := d.Torn(); err != nil || len(torn) != 0 {
		t.Errorf("torn = %v, %v", torn, err)
	}
}
