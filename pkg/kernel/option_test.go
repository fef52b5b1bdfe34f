//go:build linux

package kernel

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// sysctls are all options of the pod's links, as their owner sees them.
func (p *pod) sysctls(t *testing.T) []string {
	t.Helper()
	out := p.Run(t, "sysctl", "-a", "--pattern", `^net\.ipv[46]\.(conf|ip_forward)`)
	return strings.Split(out, "\n")
}

// set sets options the way that their owner would.
func (p *pod) set(t *testing.T, words ...string) {
	t.Helper()
	p.Run(t, "sysctl", append([]string{"-q", "-w"}, words...)...)
}

// The options that masquerade sets.
var (
	forward4    = plan.SetOption{Link: "eth0", Option: "forwarding", Value: 1}
	localnet    = plan.SetOption{Link: "eth0", Option: "route_localnet", Value: 1}
	acceptRA    = plan.SetOption{IPv6: true, Link: "eth0", Option: "accept_ra", Value: 2, Was: 1}
	allOptions  = []plan.SetOption{forward4, localnet, acceptRA, forwarding6}
	optionFiles = map[plan.SetOption]string{
		forward4: "net.ipv4.conf.eth0.forwarding", localnet: "net.ipv4.conf.eth0.route_localnet",
		acceptRA: "net.ipv6.conf.eth0.accept_ra", forwarding6: "net.ipv6.conf.all.forwarding",
	}
)

func TestOptionIsSetAloneAndPutBack(t *testing.T) {
	t.Parallel()
	for _, s := range allOptions {
		t.Run(optionFiles[s], func(t *testing.T) {
			t.Parallel()
			p := newPod(t, dualStack)
			before, sysctls := p.state(t), p.sysctls(t)
			want := optionFiles[s] + " = " + strconv.Itoa(s.Value)
			p.do(t, s)
			after := p.sysctls(t)
			changed := changedLines(sysctls, after)
			if s == forwarding6 { // which is that of every link, too
				changed = without6(changed)
			}
			if diff := cmp.Diff([]string{want}, changed); diff != "" {
				t.Errorf("what has changed (-want +got):\n%s", diff)
			}
			if n := p.changes(func() { p.do(t, s) }); n != 0 {
				t.Errorf("doing it again asks for %d changes", n)
			}
			p.undo(t, s)
			p.undo(t, s)
			if diff := cmp.Diff(sysctls, p.sysctls(t)); diff != "" {
				t.Errorf("undone (-before +after):\n%s", diff)
			}
			p.wantState(t, before)
		})
	}
}

// changedLines are the lines that were not there before.
func changedLines(before, after []string) (out []string) {
	had := map[string]bool{}
	for _, line := range before {
		had[line] = true
	}
	for _, line := range after {
		if !had[line] {
			out = append(out, line)
		}
	}
	return out
}

// without6 leaves out what the kernel sets of itself on every link when it begins
// to forward IPv6.
func without6(lines []string) (out []string) {
	for _, line := range lines {
		if own := strings.HasPrefix(line, "net.ipv6.conf.all."); own || !strings.HasSuffix(line, ".forwarding = 1") {
			out = append(out, line)
		}
	}
	return out
}

func TestOptionThatSomebodyHasSetSinceIsLeftAlone(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	p.do(t, acceptRA, forward4)
	p.set(t, "net.ipv6.conf.eth0.accept_ra=0", "net.ipv4.conf.eth0.forwarding=0")
	p.undo(t, acceptRA, plan.SetOption{Link: "eth0", Option: "forwarding", Value: 1, Was: 7})
	l, _ := p.snapshot(t).LinkByName("eth0")
	if l.AcceptRA != 0 || l.Forwarding {
		t.Errorf("link is %+v", l)
	}
}

func TestSnapshotReadsOptions(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.set(t, "net.ipv6.conf.eth0.accept_ra=1")
	s := p.snapshot(t)
	if l, _ := s.LinkByName("eth0"); l.Forwarding || l.RouteLocalnet || l.AcceptRA != 1 || s.Forwarding6 {
		t.Errorf("link is %+v, IPv6 is forwarded: %v", l, s.Forwarding6)
	}
	p.set(t, "net.ipv4.conf.eth0.forwarding=1", "net.ipv6.conf.eth0.accept_ra=2")
	if l, _ := p.snapshot(t).LinkByName("eth0"); !l.Forwarding || l.RouteLocalnet || l.AcceptRA != 2 {
		t.Errorf("link is %+v", l)
	}
	p.set(t, "net.ipv4.conf.eth0.route_localnet=1", "net.ipv6.conf.all.forwarding=1")
	s = p.snapshot(t)
	if l, _ := s.LinkByName("eth0"); !l.RouteLocalnet || !s.Forwarding6 {
		t.Errorf("link is %+v, IPv6 is forwarded: %v", l, s.Forwarding6)
	}
	// One link's option forwards nothing while the namespace's does not.
	p.set(t, "net.ipv6.conf.all.forwarding=0", "net.ipv6.conf.eth0.forwarding=1")
	if p.snapshot(t).Forwarding6 {
		t.Error("a link's option is taken for the namespace's")
	}
}

// As in a container without privileges: IPv4 needs nothing of /proc/sys.
func TestIPv4IsForwardedWhereSysctlsAreReadOnly(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	before := p.state(t)
	p.readOnly(t, func(k *Kernel) {
		without(t, func() {
			for _, s := range []plan.SetOption{forward4, localnet} {
				if err := k.Do(t.Context(), s); err != nil {
					t.Errorf("doing %s: %v", s, err)
				}
			}
		}, but(unix.CAP_NET_ADMIN)...)
		if l, _ := p.snapshot(t).LinkByName("eth0"); !l.Forwarding || !l.RouteLocalnet {
			t.Errorf("link is %+v", l)
		}
		for _, s := range []plan.SetOption{forward4, localnet} {
			if err := k.Undo(t.Context(), s); err != nil {
				t.Errorf("undoing %s: %v", s, err)
			}
		}
	})
	p.wantState(t, before)
}

func TestReadOnlySysctlsAreExplained(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	p.set(t, "net.ipv6.conf.eth0.accept_ra=1")
	before := p.state(t)
	wants := map[plan.SetOption][]string{
		forwarding6: {
			"setting net.ipv6.conf.all.forwarding to 1: ", "read-only file system", "--vm-ipv6-network-cidr none", "chained CNI plugin",
			`securityContext: {sysctls: [{name: net.ipv6.conf.all.forwarding, value: "1"}]}`,
			"--allowed-unsafe-sysctls=net.ipv6.conf.all.forwarding",
		},
		acceptRA: {
			"setting net.ipv6.conf.eth0.accept_ra to 2: ",
			`[{name: net.ipv6.conf.default.accept_ra, value: "2"}, {name: net.ipv6.conf.all.forwarding, value: "1"}]`,
			"--allowed-unsafe-sysctls=net.ipv6.conf.default.accept_ra,net.ipv6.conf.all.forwarding",
		},
	}
	p.readOnly(t, func(k *Kernel) {
		for s, want := range wants {
			err := k.Do(t.Context(), s)
			if !errors.Is(err, unix.EROFS) {
				t.Errorf("%s: %v", s, err)
				continue
			}
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no %q in %v", w, err)
				}
			}
			if err := k.Undo(t.Context(), s); err != nil {
				t.Errorf("undoing what was not done: %v", err)
			}
		}
	})
	p.wantState(t, before)
	p.do(t, forwarding6)
	p.readOnly(t, func(k *Kernel) {
		if err := k.Do(t.Context(), forwarding6); err != nil {
			t.Errorf("what is set needs no setting: %v", err)
		}
		if err := k.Undo(t.Context(), forwarding6); !errors.Is(err, unix.EROFS) {
			t.Errorf("undoing: %v", err)
		}
	})
}

func TestOptionOfALinkThatIsGone(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	p.do(t, forward4, localnet, acceptRA)
	p.Delete(t, "eth0")
	for _, s := range []plan.SetOption{forward4, localnet, acceptRA} {
		if err := p.k.Do(t.Context(), s); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, unix.ENODEV) {
			t.Errorf("doing %s: %v", s, err)
		}
		if err := p.k.Undo(t.Context(), s); err != nil {
			t.Errorf("undoing %s: %v", s, err)
		}
	}
}

func TestOptionThatIsNotKnownIsAnError(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	for _, s := range []plan.SetOption{
		{Link: "eth0", Option: "rp_filter", Value: 1},
		{Link: plan.AllLinks, Option: "forwarding", Value: 1},
	} {
		if err := p.k.Do(t.Context(), s); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("doing %s: %v", s, err)
		}
	}
	if err := p.k.Do(t.Context(), plan.SetOption{IPv6: true, Link: plan.AllLinks, Option: "none"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an option that the kernel has not: %v", err)
	}
}

func TestOptionThatIsNotPermittedSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	before := p.state(t)
	p.inside(t, func(k *Kernel) {
		for _, s := range []plan.SetOption{forward4, localnet} {
			wantExplained(t, "doing "+s.String(), k.Do(t.Context(), s))
		}
		// The files are root's, whatever root may do otherwise.
		nobody(t, 65534)
		for _, s := range []plan.SetOption{acceptRA, forwarding6} {
			wantExplained(t, "doing "+s.String(), k.Do(t.Context(), s))
		}
		nobody(t, 0)
	}, unix.CAP_NET_ADMIN)
	p.wantState(t, before)
}

// nobody makes the calling thread another user's, or root's again.
func nobody(t *testing.T, uid uintptr) {
	t.Helper()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uid, ^uintptr(0)); errno != 0 {
		t.Error(errno)
	}
}

// The namespace that is entered is not the caller's.
func TestSysctlsAreThoseOfTheNamespace(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	own, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/forwarding")
	if err != nil {
		t.Fatal(err)
	}
	want := 1 - int(own[0]-'0')
	p.set(t, "net.ipv6.conf.all.forwarding="+string(own))
	p.do(t, plan.SetOption{IPv6: true, Link: plan.AllLinks, Option: "forwarding", Value: want})
	if now, _ := os.ReadFile("/proc/sys/net/ipv6/conf/all/forwarding"); string(now) != string(own) {
		t.Fatalf("the machine's own is %s now", now)
	}
	if p.snapshot(t).Forwarding6 != (want == 1) {
		t.Error("the namespace's has not changed")
	}
}
