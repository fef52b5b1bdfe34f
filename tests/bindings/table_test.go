package bindings

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// tableTime bounds one binding's checks, on a machine that has other things to do.
const tableTime = 4 * time.Minute

// check is a row of the table.
type check struct {
	name  string
	run   func(*world) error
	fails map[string]failure // by binding; with the others it passes
}

// failure is what is expected where something cannot work.
type failure struct {
	with    string             // of the error
	instead string             // what to do
	works   func(*world) error // proves that
}

// viaRelay is what to do where localhost in the pod does not lead to the guest.
const viaRelay = "forward to a relay: another pod that goes to the pod's address"

// noPodNetwork is the price of the guest's having the pod's own address.
func noPodNetwork(with, instead string, works func(*world) error) map[string]failure {
	f := failure{with, instead, works}
	return map[string]failure{"bridge": f, "tc": f}
}

// checks are the rows, in the order in which they run on one pod.
var checks = []check{
	{name: "live traffic goes on over a setup", run: (*world).liveOver},
	{
		name: "connections of the pod itself survive a setup", run: func(w *world) error { return w.podsOwn },
		fails: noPodNetwork("i/o timeout", "the address is the guest's from then on", nothing),
	},
	{name: "configured by DHCPv4, router advertisements and DHCPv6, name servers too", run: (*world).begin},
	{name: picturable, run: (*world).picture},
	{name: "the guest reaches gateway, pods and services as the pod, IPv4", run: func(w *world) error { return w.reachesAll(w.guest.Space, far4) }},
	{name: "the guest reaches gateway, pods and services as the pod, IPv6", run: func(w *world) error { return w.reachesAll(w.guest.Space, far6) }},
	{name: "node and pods reach the guest at the pod's address, IPv4", run: func(w *world) error { return w.reachedByAll(far4) }},
	{name: "node and pods reach the guest at the pod's address, IPv6", run: func(w *world) error { return w.reachedByAll(far6) }},
	{name: "readiness probe, TCP", run: (*world).probeTCP},
	{name: "readiness probe, HTTP", run: (*world).probeHTTP},
	{
		name: "kubectl port-forward (127.0.0.1 in the pod)", run: func(w *world) error { return w.portForward("127.0.0.1") },
		fails: noPodNetwork("connection refused", viaRelay, (*world).relay),
	},
	{
		name: "kubectl port-forward (::1 in the pod)", run: func(w *world) error { return w.portForward("::1") },
		fails: noPodNetwork("connection refused", viaRelay, (*world).relay),
	},
	{
		name: "a sidecar dials out", run: (*world).sidecarDials,
		fails: map[string]failure{
			"bridge": {"unreachable", "run it in a pod of its own, or in the guest", (*world).otherSidecar},
			"tc":     {"i/o timeout", "run it in a pod of its own, or in the guest", (*world).otherSidecar},
		},
	},
	{
		name: "a sidecar is reached", run: (*world).sidecarListens,
		fails: noPodNetwork("connection refused", "run it in a pod of its own, or in the guest", (*world).otherSidecar),
	},
	{
		name: "a service mesh's proxy in the pod takes the guest's connections", run: (*world).mesh,
		fails: noPodNetwork("the proxy took 0 connections", "use masquerade: the guest's frames do not come by the pod's own network", nothing),
	},
	{name: "NetworkPolicy on the pod's address, both ways", run: (*world).policy},
	{name: "the guest reaches itself at the pod's address", run: (*world).hairpin},
	{name: "ICMP errors arrive, both ways", run: (*world).icmpErrors},
	{name: "path MTU is discovered, both ways", run: (*world).pmtu},
	{name: "64 MiB of TCP each way, as segments of up to 64 KiB", run: (*world).bulkTCP},
	{name: "UDP datagrams of up to 60 kB", run: (*world).datagrams},
	{
		name: "CNI CHECK of the bridge plugin", run: (*world).cniCheck,
		fails: map[string]failure{"bridge": {"", "the pod interface has given its address up: runtimes that CHECK need tc or masquerade", nothing}},
	},
	{name: "a second setup changes nothing, connections live on", run: (*world).twice},
	{name: "drift is named, and repaired by setup", run: (*world).drifts},
	{name: "the server is killed: traffic goes on, leases are renewed after", run: (*world).serverDies},
	{name: "teardown leaves the pod as it was, to the letter", run: (*world).end},
	{name: "a guest of libvirt's", run: nil}, // see TestTable
}

// picturable is a row that is no row of the page: the picture itself is on it.
const picturable = "it can be drawn from the kernel's own state"

func nothing(*world) error { return nil }

// TestTable runs each check with each binding.
func TestTable(t *testing.T) {
	var r report
	t.Run("bindings", func(t *testing.T) {
		for _, b := range bindings {
			t.Run(b.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, b, tableTime)
				for _, c := range checks {
					res, ran := w.check(t, c)
					if ran && !r.add(res) {
						return // the rest would fail for the same reason
					}
				}
			})
		}
	})
	fmt.Println(r.table())
	if err := r.write(t); err != nil {
		t.Error(err)
	}
}

// check runs one, unless -run leaves it out, and compares with what is expected.
func (w *world) check(t *testing.T, c check) (res result, ran bool) {
	res = result{Check: c.name, Binding: w.binding.name, Works: true}
	t.Run(c.name, func(t *testing.T) {
		ran = true
		run := c.run
		if run == nil {
			run = func(w *world) error { return w.machine(t) }
		}
		err := run(w)
		want, fails := c.fails[w.binding.name]
		if fails {
			res.Works, res.Instead = false, want.instead
			switch {
			case err == nil:
				err = errors.New("it works, and was expected not to: say so in the table")
			case !strings.Contains(err.Error(), want.with):
				err = fmt.Errorf("it is to fail with %q: %w", want.with, err)
			default:
				t.Logf("as expected: %v", err)
				err = want.works(w)
			}
		}
		if err != nil {
			res.Error = err.Error()
			t.Error(err)
		}
	})
	return res, ran
}

// liveOver has traffic go on over a setup, and keeps what became of the pod's own.
func (w *world) liveOver() error {
	g, err := w.live(func(own *talk) error {
		w.podsOwn = own.goesOn(shortTime)
		return nil
	})
	if err != nil {
		return err
	}
	// Where the guest opens the tap after the pod has asked for its MAC, with
	// masquerade, the pod asks again a second later.
	if g.blind > 3*time.Second {
		return fmt.Errorf("for %s neither pod nor guest had a packet, and %d were lost", g.blind, g.lost)
	}
	return nil
}
