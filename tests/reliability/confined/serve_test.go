package confined

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// sigRenew has udhcpc renew at once.
const sigRenew = syscall.SIGUSR1

const readyFile = "/run/ready"

// TestConfinedServerDoesAllThatItDid has one serve guests, learn of new settings and of a new
// tap, and end in order, with nothing but what it opened before.
func TestConfinedServerDoesAllThatItDid(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, b)
		to := w.Prestart(t, "--ready-file", readyFile)
		pid := w.wantConfined(t)
		guest, stop := w.guest(t, to)
		w.isServed(t, guest)

		w.Podwire(t, "setup", "--hostname", "renamed")
		if st := w.status(t); st.Hostname != "renamed" || st.PID != pid {
			t.Errorf("after a reload: %+v", st)
		}
		stop()
		w.shell(t, "ip link delete "+to.Tap)
		w.Podwire(t, "setup") // which has the server hear the new tap
		guest, _ = w.guest(t, to)
		if told := w.isServed(t, guest); told["hostname"] != "renamed" {
			t.Errorf("on the new tap the guest was told %v", told)
		}
		if again := w.wantConfined(t); again != pid {
			t.Errorf("the server is process %d, and was %d", again, pid)
		}
		w.Podwire(t, "teardown")
		if left := w.shell(t, "ls -A /run/podwire "+readyFile+" 2>/dev/null || true"); strings.Contains(left, ".sock") || strings.Contains(left, readyFile) {
			t.Errorf("it left behind: %s", left)
		}
	})
}

// TestConfinedServerEndsOnSIGTERM and takes its socket and its ready file along.
func TestConfinedServerEndsOnSIGTERM(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pod.Bridge)
	w.Prestart(t, "--ready-file", readyFile)
	w.shell(t, fmt.Sprintf("kill -TERM %d", w.wantConfined(t)))
	w.Eventually(t, "is gone", func() string {
		return w.shell(t, "ls "+readyFile+" /run/podwire/*.sock 2>/dev/null || true")
	})
}

// TestReadyFileInAnothersDirectory: root may make and remove a file there while it has its
// privileges. The guest is served, and the next server finds the file no hindrance.
func TestReadyFileInAnothersDirectory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pod.Bridge)
	const theirs, ready = "/run/theirs", "/run/theirs/ready"
	w.shell(t, "install -d -m 755 -o 1000 -g 1000 "+theirs)
	for range 2 { // over the file of the first
		to := w.Wire(t, "--ready-file", ready)[0]
		w.shell(t, "test -f "+ready)
		pid := w.wantConfined(t)
		guest, stop := w.guest(t, to)
		w.isServed(t, guest)
		stop()
		w.Podwire(t, "teardown")
		w.shell(t, fmt.Sprintf("while [ -e /proc/%d/exe ]; do :; done", pid))
		for _, said := range []string{"is not going to be removed", "is left behind"} {
			if log := w.shell(t, "cat /run/podwire/serve.log 2>/dev/null || true"); log != "" && !strings.Contains(log, said) {
				t.Errorf("the log does not say that the ready file %s:\n%s", said, log)
			}
		}
	}
}

// TestFileOfAnothersIsAsItWasRead: a resolv.conf that root reads by its privileges alone is
// not empty for having none.
func TestFileOfAnothersIsAsItWasRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pod.Bridge)
	w.shell(t, "printf 'nameserver 10.96.0.53\n' >/run/theirs.conf; chmod 600 /run/theirs.conf; chown 1000 /run/theirs.conf")
	to := w.Prestart(t, "--resolv-conf", "/run/theirs.conf")
	w.wantConfined(t)
	w.Podwire(t, "setup", "--hostname", "renamed")
	guest, _ := w.guest(t, to)
	if told := w.isServed(t, guest); told["hostname"] != "renamed" || told["dns"] != "10.96.0.53" {
		t.Errorf("the guest was told the host name %q and the nameserver %q", told["hostname"], told["dns"])
	}
	if log := w.shell(t, "cat /run/podwire/serve.log"); !strings.Contains(log, "the guest is told what it says now") {
		t.Errorf("no word of it in the log:\n%s", log)
	}
}

// TestServerThatLostItsTunnelSaysSo: it cannot make another, and a probe by status has it
// started anew.
func TestServerThatLostItsTunnelSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pod.Bridge)
	w.shell(t, "echo nameserver 127.0.0.11 >/run/inside.conf")
	w.Prestart(t, "--dns-forward", "--resolv-conf", "/run/inside.conf")
	w.wantConfined(t)
	w.shell(t, "ip link delete dns-eth0")
	w.Eventually(t, "is not well by its status", func() string {
		out, err := w.VM.Run(w.Ctx, w.program, "status")
		if err == nil {
			return out
		}
		return world.Without(out, "degraded ")
	})
	out, _ := w.VM.Run(w.Ctx, w.program, "status", "-o", "json") // which ends with 1
	if missing := world.Without(out, `"degraded": [`) + world.Without(out, `"serving": true`); missing != "" {
		t.Error(missing)
	}
	w.shell(t, "kill -9 $(pidof podwire)")
	w.Serve(t)
	w.wantConfined(t)
}

// TestDyingServerSaysWhereItIs: Go's runtime prints the goroutines of all threads, which
// it interrupts for that.
func TestDyingServerSaysWhereItIs(t *testing.T) {
	t.Parallel()
	for _, signal := range []string{"QUIT", "ABRT"} {
		t.Run(signal, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pod.Bridge)
			w.VM.Setenv("GOTRACEBACK", "crash")
			w.Prestart(t)
			pid := w.wantConfined(t)
			w.shell(t, fmt.Sprintf("kill -%s %d", signal, pid))
			w.Eventually(t, "has said where it was", func() string {
				log := w.shell(t, "cat /run/podwire/serve.log")
				for _, part := range []string{"SIG" + signal, "goroutine ", "pkg/cli.(*Agent).Serve"} {
					if missing := world.Without(log, part); missing != "" {
						return missing
					}
				}
				return ""
			})
			w.shell(t, fmt.Sprintf("while [ -e /proc/%d/exe ]; do :; done", pid))
			w.Serve(t)
			w.wantConfined(t)
		})
	}
}

// TestConfinementIsOffWhereToldSo: a debugger may want all of it.
func TestConfinementIsOffWhereToldSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pod.Bridge)
	w.Prestart(t, "--confine", "off")
	st := w.status(t)
	if st.Confinement != nil {
		t.Errorf("status says %+v", st.Confinement)
	}
	if text := w.Podwire(t, "status"); !strings.Contains(text, "not confined") {
		t.Errorf("status says\n%s", text)
	}
	if text := w.shell(t, "cat /proc/"+strconv.Itoa(st.PID)+"/status"); !strings.Contains(text, "NoNewPrivs:\t0") || strings.Contains(text, "CapEff:\t0000000000000000") {
		t.Errorf("the kernel says\n%s", text)
	}
}

// TestKernelThatLacksAPart has the kernel refuse what confines as one does that is older or
// built without: the guest is served all the same.
func TestKernelThatLacksAPart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		inject []string
		want   confinement
	}{
		"Landlock": {[]string{"landlock_create_ruleset:error=EOPNOTSUPP"}, confinement{Landlock: 0, Seccomp: 1}},
		"seccomp":  {[]string{"seccomp:error=ENOSYS"}, confinement{Landlock: 1, Seccomp: 0}},
		"both":     {[]string{"landlock_create_ruleset:error=ENOSYS", "seccomp:error=EINVAL"}, confinement{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pod.Bridge)
			to := w.Prestart(t)
			w.KillServer(t)
			args := []string{"-f", "-o", "/run/trace", "-e", "trace=landlock_create_ruleset,seccomp"}
			for _, each := range test.inject {
				args = append(args, "-e", "inject="+each)
			}
			log := world.Daemon(t, w.VM.Space, "strace", append(args, w.program, "serve", "--ready-file", readyFile)...)
			// A tracer that is killed lets go of what it traced.
			t.Cleanup(func() { _, _ = w.VM.Run(context.Background(), "sh", "-c", "kill -9 $(pidof podwire)") })
			w.Eventually(t, "serves", func() string {
				if _, err := w.VM.ReadFile(readyFile); err != nil {
					return "it is not ready: " + log()
				}
				return ""
			})
			defer func() {
				if t.Failed() {
					t.Log(log())
				}
			}()
			c := w.status(t).Confinement
			if c == nil || c.Capabilities != "none" || !c.NoNewPrivileges ||
				(c.Landlock > 0) != (test.want.Landlock > 0) || (c.Seccomp > 0) != (test.want.Seccomp > 0) ||
				len(c.Lacking) != len(test.inject) {
				t.Errorf("status says %+v", c)
			}
			if n := strings.Count(log(), "without a part of its confinement"); n != len(test.inject) {
				t.Errorf("it warned %d times, want %d:\n%s", n, len(test.inject), log())
			}
			guest, _ := w.guest(t, to)
			c4, err := client.Udhcpc(guest, w.Dir, "nic0")
			world.Running(t, c4, err)
			w.Wait(t, c4, "bound")
		})
	}
}

// TestConfinedServerRelaysDNS asks by UDP and by TCP. A tunnel that somebody deletes is
// lost, and said so; all else goes on.
func TestConfinedServerRelaysDNS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pod.Bridge)
	const resolver = "127.0.0.11"
	if err := w.VM.SetResolvConf("nameserver " + resolver + "\n"); err != nil {
		t.Fatal(err)
	}
	world.Daemon(t, w.VM.Space, "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--user=root", "--conf-file=/dev/null", "--pid-file=",
		"--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address="+resolver, "--host-record=small.pods.example,10.1.2.3")
	to := w.Prestart(t, "--dns-forward")
	w.wantConfined(t)
	guest, _ := w.guest(t, to)
	if told := w.isServed(t, guest); told["dns"] != "169.254.75.1" {
		t.Fatalf("the guest was told %v", told)
	}
	for _, network := range []string{"udp", "tcp"} {
		ask := resolverIn(guest, network, "169.254.75.1")
		w.Eventually(t, "is answered by "+network, func() string {
			hosts, err := ask.LookupHost(w.Ctx, "small.pods.example")
			if err != nil || len(hosts) != 1 || hosts[0] != "10.1.2.3" {
				return fmt.Sprintf("%v, %v", hosts, err)
			}
			return ""
		})
	}
	w.shell(t, "ip link delete dns-eth0")
	w.Eventually(t, "says that it is lost", func() string {
		return world.Without(w.shell(t, "cat /run/podwire/serve.log"), "is not relayed any more")
	})
	c4, err := client.Udhcpc(guest, w.Dir, "nic0")
	world.Running(t, c4, err)
	w.Wait(t, c4, "bound")
}

// TestServerEntersItsNamespaceForGood starts one from outside: all of its threads are in
// the pod's network, those that come later too.
func TestServerEntersItsNamespaceForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pod.Bridge)
	dir := t.TempDir()
	outside := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(w.Ctx, w.program, append(args, "--netns", w.VM.NetNS(), "--state-dir", dir, "--log-level", "debug")...)
		var log pod.Log
		cmd.Stderr = &log
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, log.String())
		}
		return string(out)
	}
	before := w.Settled(t)
	outside("prestart")
	pid := statusOf(t, outside("status", "-o", "json")).PID
	t.Cleanup(func() { _ = exec.Command("kill", "-9", strconv.Itoa(pid)).Run() })
	inside := func() {
		t.Helper()
		all := ""
		for _, each := range threadsOf(t, pid) {
			if each.netns != netnsOf(t, w.VM.NetNS()) {
				t.Errorf("thread %d is in %s", each.tid, each.netns)
			}
			all += each.status
		}
		wantNothing(t, all)
	}
	inside()
	to := world.Wired{Pod: "eth0", Tap: "tap-eth0", MAC: statusOf(t, outside("status", "-o", "json")).MAC, MTU: world.PodMTU}
	guest, stop := w.guest(t, to)
	w.isServed(t, guest)
	stop()
	w.shell(t, "ip link delete tap-eth0")
	outside("setup")
	guest, _ = w.guest(t, to)
	w.isServed(t, guest)
	inside()
	outside("teardown")
	after := w.Settled(t)
	if strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("the pod's network was\n%s\nand is\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// TestWhatConfinementCosts measures a start from exec to ready, and the memory.
func TestWhatConfinementCosts(t *testing.T) {
	w := newWorld(t, pod.Bridge)
	w.Prestart(t)
	w.KillServer(t)
	starts := 7
	if world.Long() {
		starts = 41
	}
	cost := map[string][]cost{}
	for range starts {
		for _, how := range []string{"on", "off"} {
			cost[how] = append(cost[how], w.startOnce(t, how))
		}
	}
	on, off := median(cost["on"]), median(cost["off"])
	world.Figure(t, topic, "time from exec to ready, confined", on.start.Round(time.Microsecond*100))
	world.Figure(t, topic, "time from exec to ready, not confined", off.start.Round(time.Microsecond*100))
	world.Figure(t, topic, "memory (RSS) of a confined server, kB", on.rss)
	world.Figure(t, topic, "memory (RSS) of one that is not, kB", off.rss)
	if on.start > off.start+100*time.Millisecond {
		t.Errorf("confinement takes %s", on.start-off.start)
	}
}
