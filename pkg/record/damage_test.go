package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/plan"
)

// TestDamageIsNamed: the one line says which file, which field, what is there and what is
// wanted.
func TestDamageIsNamed(t *testing.T) {
	for _, tt := range []struct{ old, with, says string }{
		{`"version": 1`, `"version": "1"`, `version: "\"1\"": want 1`},
		{`"phase": "recorded"`, `"phase": "done"`, `phase: "done": want recorded, applied or undoing`},
		{`"podInterface": "eth0"`, `"podInterface": "../etc/passwd"`, `interface.podInterface: "../etc/passwd": want "eth0"`},
		{`"tap": "tap-eth0"`, `"tap": "docker0"`, `interface.tap: "docker0": want "tap-eth0"`},
		{`"mtu": 1450`, `"mtu": "big"`, `mtu: "big": want a whole number of 64 bits`},
		{`"queues": 1`, `"queues": 1000`, `config: queues: "1000": want a number from 1 to 256`},
		{`"binding": "bridge"`, `"binding": ["bridge"]`, `config.binding: "[\"bridge\"]": want a text`},
		{`"resolvConf": "/etc/resolv.conf"`, `"resolvConf": "../x"`, `config: resolv-conf: "../x": want an absolute path`},
		{`"hostname": "vm"`, `"hostname": {"a": 1}`, `hostname: "{\"a\": 1}": want a text`},
		{`"addrs": [`, `"addrs": ["",`, `addrs[0]: ""`},
		{`"dst": "0.0.0.0/0"`, `"dst": "10.0.0.999/24"`, `"10.0.0.999/24": want an IP address and its length, such as 10.244.1.7/24`},
		{`"mac": "`, `"mac": "\u001b[31m`, `want a MAC address`},
		{`"lease": {`, `"LEASE": {}, "lease": {`, `key: "lease": want each once in an object`},
		{`"routes": [`, `"routes": {}, "was": [`, `routes: "{}": want a list`},
		{`"step": "set-mac"`, `"step": "` + strings.Repeat("x", 100_000) + `"`, `steps: step `},
		{`"link": "eth0"`, `"link": "lo"`, `want one of tap-eth0, pw-eth0, eth0`},
	} {
		r := bound(t, config.Bridge)
		r.Lease.Hostname = "vm"
		text, err := json.MarshalIndent(r, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), tt.old) {
			t.Errorf("%q is not in the state", tt.old)
			continue
		}
		d := Dir(t.TempDir())
		if err := os.WriteFile(d.Path("eth0"), []byte(strings.Replace(string(text), tt.old, tt.with, 1)), 0o640); err != nil {
			t.Fatal(err)
		}
		_, err = d.Load("eth0")
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", tt.with, err)
			continue
		}
		if text := err.Error(); !strings.Contains(text, d.Path("eth0")+": ") || !strings.Contains(text, tt.says) || len(text) > 600 ||
			strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%.100s: %q, want one line with %q", tt.with, text, tt.says)
		}
	}
}

// TestWhatIsNoPlainFileIsRefused, and not opened: a pipe would be waited for, and a device
// may do something.
func TestWhatIsNoPlainFileIsRefused(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a link":      func(path string) error { return os.Symlink("/etc/passwd", path) },
		"a loop":      func(path string) error { return os.Symlink(path, path) },
		"a device":    func(path string) error { return os.Symlink("/dev/zero", path) },
		"two names": func(path string) error {
			return errors.Join(os.WriteFile(path+".other", nil, 0o600), os.Link(path+".other", path))
		},
		"huge": func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)) },
	} {
		d := Dir(t.TempDir())
		if err := put(d.Path("eth0")); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Load("eth0"); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "want ") {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
}

// TestWhatIsSomebodyElsesIsNotReliedOn, be it the file or a link to the directory. In a
// directory of somebody else's nothing new is kept, and what is there goes on.
func TestWhatIsSomebodyElsesIsNotReliedOn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	const other = 107
	base := t.TempDir()
	d, link := Dir(filepath.Join(base, "state")), Dir(filepath.Join(base, "link"))
	r := example(t)
	if err := errors.Join(d.Create(), os.Symlink(string(d), string(link)), link.Save(r), os.Chown(string(d), other, -1)); err != nil {
		t.Fatal(err)
	}
	for _, d := range []Dir{d, link} {
		_, err := d.Load("eth0")
		names, listErr := d.List()
		if err := errors.Join(err, listErr, d.Create(), d.Save(r)); err != nil || len(names) != 1 {
			t.Errorf("a directory of another, with a record of root's: %v, %v", names, err)
		}
	}
	if err := d.Remove("eth0"); err != nil {
		t.Errorf("removing it: %v", err)
	}
	if err := d.Save(r); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "user 107's: want a directory of this user's own") {
		t.Errorf("a new record in a directory of another: %v", err)
	}
	if entries, _ := os.ReadDir(string(d)); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	if err := errors.Join(os.Chown(string(d), 0, -1), d.Save(r), os.Lchown(string(link), other, -1)); err != nil {
		t.Fatal(err)
	}
	_, err := link.Load("eth0")
	_, listErr := link.List()
	for _, err := range []error{err, listErr, link.Create()} {
		if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "user 107's link") {
			t.Errorf("a link of another: %v", err)
		}
	}
	if err := os.Chown(d.Path("eth0"), other, -1); err != nil {
		t.Fatal(err)
	}
	got, err := d.Load("eth0")
	if !errors.Is(err, ErrTheirs) || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "user 107's") || got.Interface != r.Interface {
		t.Errorf("a record of another: %+v, %v", got.Interface, err)
	}
	spoiled := strings.Replace(read0(t, d.Path("eth0")), `"queues": 1`, `"queues": 1000`, 1)
	if err := os.WriteFile(d.Path("eth0"), []byte(spoiled), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Load("eth0"); err == nil || got.Interface == r.Interface {
		t.Errorf("a bad record of another is taken: %v", err)
	}
}

func read0(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestSettingsOfAnOlderReleaseDoNotDamage what puts the pod back.
func TestSettingsOfAnOlderReleaseDoNotDamage(t *testing.T) {
	d := Dir(t.TempDir())
	r := example(t)
	if err := d.Save(r); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(read0(t, d.Path("eth0")), `"config": {`, `"config": {"interfaces": ["eth0,1"],`, 1)
	if err := os.WriteFile(d.Path("eth0"), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	got, err := d.Load("eth0")
	var setting *config.Error
	if !errors.Is(err, ErrConfig) || !errors.Is(err, ErrDamaged) || errors.Is(err, ErrTheirs) || !errors.As(err, &setting) || len(got.Steps) != len(r.Steps) {
		t.Fatalf("%d steps, %v", len(got.Steps), err)
	}
	got.Phase = Undoing
	if err := d.Save(got); err != nil {
		t.Errorf("that it is taken back cannot be written: %v", err)
	}
	got.Phase = Recorded
	if err := d.Save(got); err == nil {
		t.Error("such a record is made")
	}
}

// TestWhatCouldNotBeReadAgainIsNotWritten, and the record that is there stays.
func TestWhatCouldNotBeReadAgainIsNotWritten(t *testing.T) {
	d, good := Dir(t.TempDir()), example(t)
	if err := d.Save(good); err != nil {
		t.Fatal(err)
	}
	before := read0(t, d.Path("eth0"))
	huge, other, odd := good, good, good
	huge.Warnings = []string{strings.Repeat("x", maxSize)}
	other.Interface.Tap = "docker0"
	odd.Config.Queues = 1000
	for says, r := range map[string]Record{"too many routes (": huge, `"docker0": want "tap-eth0"`: other, "queues": odd} {
		if err := d.Save(r); err == nil || !strings.Contains(err.Error(), says) || errors.Is(err, ErrDamaged) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	if entries, _ := os.ReadDir(string(d)); len(entries) != 1 || read0(t, d.Path("eth0")) != before {
		t.Errorf("the state is another, or something beside it: %v", entries)
	}
}

// TestNothingIsMadeOfTheNameOfAMacvtap, which is the pod interface itself.
func TestNothingIsMadeOfTheNameOfAMacvtap(t *testing.T) {
	for _, step := range []plan.Step{plan.CreateTap{Name: "eth0"}, plan.CreateBridge{Name: "eth0"}, plan.AddAddresses{Link: "eth0"}} {
		r := bound(t, config.Macvtap)
		if err := r.validate("eth0"); err != nil {
			t.Fatal(err)
		}
		r.Steps = append(r.Steps, step)
		if err := r.validate("eth0"); err == nil || !strings.Contains(err.Error(), "want no such step") {
			t.Errorf("%s: %v", step.Kind(), err)
		}
	}
}

// TestEveryValueOfAnotherKindIsFound, wherever it is in the file.
func TestEveryValueOfAnotherKindIsFound(t *testing.T) {
	for _, b := range []config.Binding{config.Bridge, config.TC, config.Masquerade} {
		text, err := json.Marshal(bound(t, b))
		if err != nil {
			t.Fatal(err)
		}
		var whole any
		if err := json.Unmarshal(text, &whole); err != nil {
			t.Fatal(err)
		}
		tried := 0
		spoil(whole, func(key string) {
			tried++
			text, err := json.Marshal(whole)
			if err != nil {
				t.Fatal(err)
			}
			if key == "with" { // whose error names the step
				key = "step "
			}
			if _, err := decode(text); err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("%s: %v", key, err)
			}
		})
		t.Logf("%s: %d values", b, tried)
	}
}

// spoil puts, in place of each value in turn, one of another kind.
func spoil(v any, try func(key string)) {
	switch v := v.(type) {
	case map[string]any:
		for key, was := range v {
			v[key] = otherKind(was)
			try(key)
			v[key] = was
			spoil(was, try)
		}
	case []any:
		for i, was := range v {
			v[i] = otherKind(was)
			try("")
			v[i] = was
			spoil(was, try)
		}
	}
}

func otherKind(v any) any {
	switch v.(type) {
	case map[string]any, []any:
		return "x"
	default:
		return map[string]any{"x": 1}
	}
}

// FuzzLoad: whatever is in the file, it is refused in one line, or what was taken is saved
// and loaded as it is.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"version": 1, "phase": "applied", "interface": {"podInterface": "eth0", "tap": "tap-eth0"}, "steps": []}`))
	f.Add([]byte(`{"version": 1, "version": 1}`))
	for _, b := range []config.Binding{config.Bridge, config.TC, config.Masquerade, config.Macvtap} {
		text, err := json.Marshal(bound(f, b))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := decode(text)
		if err == nil {
			err = r.validate("eth0")
		}
		if err != nil {
			if strings.ContainsAny(fmt.Sprintf("%.9000s", err), "\n") {
				t.Errorf("%q is more than a line", err)
			}
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		r, err = decode(again)
		if err == nil {
			err = r.validate("eth0")
		}
		if err != nil {
			t.Errorf("%s, as it was saved: %v", again, err)
		}
		for _, s := range r.Steps {
			_ = s.String()
		}
	})
}
