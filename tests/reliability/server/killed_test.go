package server

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
	"github.com/podwire/podwire/tests/world"
)

const topic = "server"

// answerTime is a bound for a machine that has other things to do, too.
const answerTime = 10 * time.Second

// killed is a guest whose server is killed again and again.
type killed struct {
	*world.World
	program string
	mac     net.HardwareAddr
	link    *wire.Socket // of the guest
	guest   *client.Client
	lease   string          // what the guest was told first
	answers []time.Duration // from exec to the first answer
}

// TestServerIsKilledAgainAndAgain kills the server as soon as its guest has renewed its
// lease, starts it again, and so on. Each time it must answer with the same lease, and soon.
func TestServerIsKilledAgainAndAgain(t *testing.T) {
	for _, b := range bindings() {
		t.Run(string(b), func(t *testing.T) { // one after another: they measure
			k := newKilled(t, b)
			lasts := 10 * time.Second
			if world.Long() {
				lasts = time.Minute
			}
			begun := time.Now()
			for time.Since(begun) < lasts {
				k.again(t)
			}
			k.report(t, b, time.Since(begun))
		})
	}
}

func bindings() []pod.Binding {
	if world.Long() {
		return pod.Bindings
	}
	return pod.Bindings[:1]
}

func newKilled(t *testing.T, b pod.Binding) *killed {
	t.Helper()
	k := &killed{World: world.New(t, world.DualBridge, world.ResolvConf6, 5*time.Minute).With(b)}
	var err error
	if k.program, err = k.Dir.Program("podwire"); err != nil {
		t.Fatal(err)
	}
	wired := k.Prestart(t)
	if k.mac, err = net.ParseMAC(wired.MAC); err != nil {
		t.Fatal(err)
	}
	_, guest := k.Plug(t, wired)
	k.guest, err = client.Udhcpc(guest, k.Dir, "nic0")
	k.guest = world.Running(t, k.guest, err)
	k.lease = told(k.Wait(t, k.guest, "bound"))
	if k.link, err = wire.OpenSocket(guest, "nic0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.link.Close() })
	k.KillServer(t) // of prestart
	return k
}

// told is what a lease says, in one line.
func told(e client.Event) string {
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range e.Told {
			if !yield(name) {
				return
			}
		}
	})
	line := ""
	for _, name := range names {
		line += fmt.Sprintf("%s=%s ", name, e.Told[name])
	}
	return line
}

// again starts a server, waits for its first answer, has the guest renew its lease, and
// kills the server.
func (k *killed) again(t *testing.T) {
	t.Helper()
	log := &pod.Log{}
	cmd := exec.Command(k.program, "serve")
	cmd.Stdout, cmd.Stderr = log, log
	begun := time.Now()
	if err := k.VM.Start(cmd); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}()
	if addr := k.firstAnswer(t, log); addr != k.GuestAddr() {
		t.Fatalf("the guest was offered %s, want %s", addr, k.GuestAddr())
	}
	k.answers = append(k.answers, time.Since(begun))
	if err := k.guest.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if now := told(k.Wait(t, k.guest, "renew", "bound")); now != k.lease {
		t.Fatalf("the guest was told\n%s\nand then\n%s", k.lease, now)
	}
}

// firstAnswer asks every millisecond until somebody answers.
func (k *killed) firstAnswer(t *testing.T, log *pod.Log) (addr netip.Addr) {
	t.Helper()
	xid := rand.Uint32()
	ask := wire.UDP(k.mac, netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67"), wire.DHCP(k.mac, xid, 1, netip.Addr{}))
	for begun := time.Now(); time.Since(begun) < answerTime; {
		if err := k.link.Send(ask); err != nil {
			t.Fatal(err)
		}
		_, err := k.link.Hear(time.Millisecond, func(frame []byte) bool {
			kind, id, offered, ok := wire.DHCPAnswer(frame)
			addr = offered
			return ok && kind == 2 && id == xid
		})
		if err == nil {
			return addr
		}
	}
	t.Fatalf("no answer in %s:\n%s", answerTime, log)
	return addr
}

func (k *killed) report(t *testing.T, b pod.Binding, took time.Duration) {
	t.Helper()
	if len(k.answers) < 10 {
		t.Errorf("the server was killed only %d times in %s", len(k.answers), took)
	}
	slices.Sort(k.answers)
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	world.Figure(t, topic, fmt.Sprintf("%s: times the server was killed", b), fmt.Sprintf("%d in %s", len(k.answers), took.Round(time.Second)))
	world.Figure(t, topic, fmt.Sprintf("%s: from exec to the first answer, median", b), round(k.answers[len(k.answers)/2]))
	world.Figure(t, topic, fmt.Sprintf("%s: from exec to the first answer, worst", b), round(k.answers[len(k.answers)-1]))
}
