package moves

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// How many times a pod is wired and given back.
const (
	shortCycles = 150
	longCycles  = 10_000
	chunk       = 50 // after so many the pod is looked at
	warmUp      = 12 // before what is counted
)

// cycling wires the pod and gives it back, with one binding after the other, for each line
// that it reads a number of times, and then says so. Every tenth time a server is left
// behind, for teardown to end.
const cycling = `
n=0
while read -r times; do
	while [ "$times" -gt 0 ]; do
		case $((n % 3)) in 0) b=bridge ;; 1) b=tc ;; 2) b=masquerade ;; esac
		case $((n % 10)) in 9) wire=prestart ;; *) wire=setup ;; esac
		"$PROGRAM" $wire --binding $b --log-level error >/dev/null || { echo "cycle $n: podwire $wire --binding $b ended with $?"; exit 1; }
		"$PROGRAM" teardown --log-level error || { echo "cycle $n: podwire teardown after $b ended with $?"; exit 1; }
		n=$((n + 1)) times=$((times - 1))
	done
	echo "done $n"
done`

// held is what the pod's namespaces hold besides what World.Settled shows: counted by the
// kernel for this namespace alone, so that nothing else on the machine is in the numbers.
var held = map[string]string{
	"links":            `ls /sys/class/net | wc -l`,
	"addresses":        `ip -o address show | wc -l`,
	"routes":           `{ ip -4 route show table all; ip -6 route show table all; } | wc -l`,
	"neighbours":       `ip neighbour show nud permanent | wc -l`,
	"multicast groups": `cat /proc/net/dev_mcast | wc -l`,
	"tables of nft":    `nft list tables | wc -l`,
	"lines of nft":     `nft list ruleset | wc -l`,
	"qdiscs":           `tc qdisc show | wc -l`,
	"sysctl entries":   `ls -d /proc/sys/net/ipv4/conf/* /proc/sys/net/ipv6/conf/* /proc/sys/net/ipv4/neigh/* | wc -l`,
	"packet sockets":   `tail -n +2 /proc/net/packet | wc -l`,
	"sockets":          `awk '/^sockets:/ {print $3}' /proc/net/sockstat`,
	"unix sockets":     `tail -n +2 /proc/net/unix | wc -l`,
	"connections":      `cat /proc/sys/net/netfilter/nf_conntrack_count 2>/dev/null || echo 0`,
	"servers":          `cat /proc/[0-9]*/comm 2>/dev/null | grep -cx podwire || true`,
	"files of state":   `find /run/podwire -mindepth 1 ! -name serve.log | wc -l`,
	"mounts":           `cat /proc/self/mounts | wc -l`,
}

func (w *testWorld) held(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for name, script := range held {
		text, err := w.VM.Run(w.Ctx, "sh", "-c", script)
		if err != nil {
			t.Fatal(err)
		}
		if out[name], err = strconv.Atoi(strings.TrimSpace(text)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return out
}

// wantNoMore waits until the pod holds no more of anything than it did: the kernel is done
// with a socket some time after its process has ended.
func (w *testWorld) wantNoMore(t *testing.T, before map[string]int, cycles int) {
	t.Helper()
	w.Eventually(t, fmt.Sprintf("holds no more than before, after %d cycles", cycles), func() string {
		var more []string
		for name, n := range w.held(t) {
			if n > before[name] {
				more = append(more, fmt.Sprintf("%s: %d, and were %d", name, n, before[name]))
			}
		}
		return strings.Join(more, "; ")
	})
}

// cycler is a shell in the pod that goes through the cycles.
type cycler struct {
	*exec.Cmd
	ask  func(times int) error
	said func() string
}

func (w *testWorld) newCycler(t *testing.T) *cycler {
	t.Helper()
	var log pod.Log
	cmd := exec.Command("sh", "-c", cycling)
	cmd.Env = append(cmd.Environ(), "PROGRAM="+w.program)
	cmd.Stdout, cmd.Stderr = &log, &log
	in, err := cmd.StdinPipe()
	if err == nil {
		err = w.VM.Start(cmd)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &cycler{cmd, func(times int) error {
		_, err := fmt.Fprintln(in, times)
		return err
	}, log.String}
}

// run goes through some cycles, and waits until there were n in all.
func (c *cycler) run(t *testing.T, w *testWorld, times, n int) {
	t.Helper()
	if err := c.ask(times); err != nil {
		t.Fatalf("%v: %s", err, c.said())
	}
	for !strings.Contains(c.said(), fmt.Sprintf("done %d\n", n)) {
		if strings.Contains(c.said(), "cycle ") {
			t.Fatal(c.said())
		}
		select {
		case <-w.Ctx.Done():
			t.Fatalf("%v: %s", w.Ctx.Err(), c.said())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestManyCyclesLeakNothing wires a pod and gives it back over and over, in one network
// namespace and with all bindings in turn. Whenever it is looked at the pod is as it was
// found, and holds no more of anything; and the kernel's memory for it does not grow.
func TestManyCyclesLeakNothing(t *testing.T) {
	t.Parallel()
	cycles, limit := shortCycles, 2*patience
	if world.Long() {
		cycles, limit = longCycles, 50*time.Minute
	}
	w := newRichWorld(t, pod.Bridge, limit)
	memory := newMemory(t)
	shell := w.newCycler(t)
	memory.hold(t, shell.Process.Pid)
	// The first ones make what stays: modules, the caches of processors, the directory.
	shell.run(t, w, warmUp, warmUp)
	before, held := w.settled(t, w.VM), w.held(t)
	used, began, index := memory.used(t), time.Now(), w.nextIndex(t)
	for n := warmUp; n < warmUp+cycles; {
		times := min(chunk*max(1, cycles/1000), warmUp+cycles-n)
		n += times
		shell.run(t, w, times, n)
		w.wantSettled(t, w.VM, before, fmt.Sprintf("%d cycles", n))
		w.wantNoMore(t, held, n)
	}
	took := time.Since(began)
	world.Figure(t, topic, "cycles of setup and teardown in one namespace", cycles)
	world.Figure(t, topic, "a cycle takes", (took / time.Duration(cycles)).Round(100*time.Microsecond))
	world.Figure(t, topic, "kinds of things counted after them, all as before", len(held))
	world.Figure(t, topic, "numbers of links used up in a cycle", fmt.Sprintf("%.2f", float64(w.nextIndex(t)-index)/float64(cycles)))
	if memory == nil {
		return
	}
	grown := memory.used(t) - used
	t.Logf("the kernel used %d octets, and %d more afterwards", used, grown)
	world.Figure(t, topic, "kernel memory grown in a cycle (bytes)", grown/cycles)
	if grown > mostGrown(cycles) {
		t.Errorf("the kernel's memory for the pod grew by %d octets in %d cycles, from %d", grown, cycles, used)
	}
}

// mostGrown is less than the least leak: a quarter of a kilobyte a cycle. What the kernel
// keeps at hand for the next time comes and goes by pages, whatever is done.
func mostGrown(cycles int) int { return 2<<20 + 256*cycles }

// nextIndex is the number of the pod's next link.
func (w *testWorld) nextIndex(t *testing.T) int {
	t.Helper()
	if err := w.VM.IP(w.Ctx, "tuntap add mode tap name probe"); err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(w.Output(t, w.VM.Space, "cat /sys/class/net/probe/ifindex")))
	if err == nil {
		err = w.VM.IP(w.Ctx, "link del probe")
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}
