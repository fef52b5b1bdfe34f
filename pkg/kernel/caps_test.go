//go:build linux

package kernel

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// without calls f on a thread that lacks capabilities. They are the thread's
// own, so f must not hand work to others.
func without(t *testing.T, f func(), capabilities ...uint) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had, has [2]unix.CapUserData
	if err := unix.Capget(&header, &had[0]); err != nil {
		t.Fatal(err)
	}
	has = had
	for _, c := range capabilities {
		has[c/32].Effective &^= 1 << (c % 32)
	}
	if err := unix.Capset(&header, &has[0]); err != nil {
		t.Fatal(err)
	}
	f()
	if err := unix.Capset(&header, &had[0]); err != nil {
		t.Fatal(err)
	}
}

// inside opens the pod from inside, as its own containers do.
func (p *pod) inside(t *testing.T, f func(k *Kernel), lacking ...uint) {
	t.Helper()
	p.Do(t, func() {
		k, err := Open("")
		if err != nil {
			t.Error(err)
			return
		}
		defer k.Close()
		without(t, func() { f(k) }, lacking...)
	})
}

func TestStepThatIsNotPermittedSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	p := newPod(t, []string{"addr add 10.244.1.7/24 dev eth0"})
	before := p.state(t)
	steps := bridgeSteps(p.snapshot(t))
	p.do(t, steps...)
	wired := p.state(t)
	p.inside(t, func(k *Kernel) {
		for _, s := range steps {
			wantExplained(t, "undoing "+s.Kind(), k.Undo(t.Context(), s))
		}
	}, unix.CAP_NET_ADMIN)
	p.wantState(t, wired)
	p.undo(t, steps...)
	p.inside(t, func(k *Kernel) {
		for _, s := range steps {
			switch s := s.(type) {
			case plan.AddFilter:
				if s.Link != "eth0" {
					continue // not there to put it on
				}
			case plan.AttachPort:
				continue // no bridge to attach it to
			}
			wantExplained(t, "doing "+s.Kind(), k.Do(t.Context(), s))
		}
	}, unix.CAP_NET_ADMIN)
	p.wantState(t, before)
}

func wantExplained(t *testing.T, what string, err error) {
	t.Helper()
	const line = `securityContext: {capabilities: {add: ["NET_ADMIN"]}}`
	if !errors.Is(err, fs.ErrPermission) || strings.Count(err.Error(), line) != 1 {
		t.Errorf("%s: %v", what, err)
	}
}

func TestReadingNeedsNoCapability(t *testing.T) {
	t.Parallel()
	p := newPod(t, []string{"addr add 10.244.1.7/24 dev eth0"})
	p.do(t, plan.AddFilter{Link: "eth0", Name: "test", Drop: podMatches})
	var s netstate.Snapshot
	p.inside(t, func(k *Kernel) {
		var err error
		if s, err = k.Snapshot(t.Context()); err != nil {
			t.Error(err)
		}
	}, unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_NET_RAW)
	want := p.snapshot(t)
	want.Blind = true
	compare(t, want, s)
}

// but is all capabilities without those.
func but(kept ...uint) []uint {
	var out []uint
	for c := range uint(unix.CAP_LAST_CAP + 1) {
		if !slices.Contains(kept, c) {
			out = append(out, c)
		}
	}
	return out
}

// The init container has CAP_NET_ADMIN and nothing else, the server CAP_NET_RAW.
func TestOneCapabilityIsEnough(t *testing.T) {
	t.Parallel()
	for name, opts := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, dualStack)
			before, steps := p.state(t), bridgeSteps(p.snapshot(t))
			p.Do(t, func() {
				k, err := Open("", opts...)
				if err != nil {
					t.Error(err)
					return
				}
				defer k.Close()
				without(t, func() {
					for _, s := range steps {
						if err := k.Do(t.Context(), s); err != nil {
							t.Errorf("doing %s: %v", s.Kind(), err)
						}
					}
				}, but(unix.CAP_NET_ADMIN)...)
				without(t, func() {
					tap, err := k.OpenTap("tap-eth0", podMatches)
					if err != nil {
						t.Error(err)
						return
					}
					tap.Close()
				}, but(unix.CAP_NET_RAW)...)
				p.wantTaken(t)
				without(t, func() {
					for _, s := range slices.Backward(steps) {
						if err := k.Undo(t.Context(), s); err != nil {
							t.Errorf("undoing %s: %v", s.Kind(), err)
						}
					}
				}, but(unix.CAP_NET_ADMIN)...)
			})
			p.wantState(t, before)
		})
	}
}

func TestTapSocketNeedsNetRaw(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.inside(t, func(k *Kernel) {
		_, err := k.OpenTap("eth0", podMatches)
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), `add: ["NET_RAW"]`) {
			t.Errorf("got %v", err)
		}
	}, unix.CAP_NET_RAW)
}

func TestOwnNamespaceIsOpenedWithoutCapability(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.Do(t, func() {
		without(t, func() {
			for _, path := range []string{"", "/proc/thread-self/ns/net", p.Path} {
				k, err := Open(path)
				if err != nil {
					t.Errorf("opening %q: %v", path, err)
					continue
				}
				if _, err := k.link(t.Context(), "eth0"); err != nil {
					t.Errorf("%q: %v", path, err)
				}
				k.Close()
			}
		}, unix.CAP_SYS_ADMIN)
	})
}

func TestRequireNamesEachThingThatIsMissing(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	if err := p.k.Require(NeedNetAdmin, NeedNetRaw, NeedTun); err != nil {
		t.Errorf("as root: %v", err)
	}
	without(t, func() {
		if err := p.k.Require(NeedTun); err != nil {
			t.Errorf("what is there: %v", err)
		}
		err := p.k.Require(NeedNetAdmin, NeedNetRaw)
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("got %v", err)
			return
		}
		want := `capability CAP_NET_ADMIN is missing; the container gets it with securityContext: {capabilities: {add: ["NET_ADMIN"]}}
capability CAP_NET_RAW is missing; the container gets it with securityContext: {capabilities: {add: ["NET_RAW"]}}`
		if err.Error() != want {
			t.Errorf("got\n%s\nwant\n%s", err, want)
		}
	}, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW)
}

func TestDeviceThatIsMissingIsExplained(t *testing.T) {
	err := explain(&deviceError{tunDevice, unix.ENOENT})
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "device /dev/net/tun is missing; ") {
		t.Errorf("got %v", err)
	}
	err = explain(&deviceError{tunDevice, unix.EPERM})
	if !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "NET_ADMIN") {
		t.Errorf("the device is kept from the container, not the capability: %v", err)
	}
}

func TestDoctorFindsThisMachineWell(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	before := p.state(t)
	for _, f := range p.k.Doctor(t.Context()) {
		t.Logf("%s\t%s\t%s\t%s", f.Status, f.Name, f.Detail, f.Fix)
		if f.Status == StatusFail {
			t.Errorf("%s: %s", f.Name, f.Detail)
		}
	}
	p.wantState(t, before)
}

func TestDoctorSaysWherePodHasNoIPv6(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.Do(t, func() {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0); err != nil {
			t.Error(err)
		}
	})
	want := Finding{Name: "IPv6", Status: StatusOK, Detail: "off in this pod (net.ipv6.conf.all.disable_ipv6): guests get IPv4 alone"}
	if got := p.k.ipv6Finding(); got != want {
		t.Errorf("got %+v", got)
	}
}

func TestDoctorSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	without(t, func() {
		found := map[string]Finding{}
		for _, f := range p.k.Doctor(t.Context()) {
			found[f.Name] = f
		}
		for _, name := range []string{"NET_ADMIN", "NET_RAW"} {
			f := found["capability CAP_"+name]
			if f.Status != StatusFail || !strings.Contains(f.Fix, name) {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW)
}
