package launcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/pkg/domxml"
)

// launch is a launcher that runs in a bubble.
type launch struct {
	*world
	signal context.CancelCauseFunc
	result chan error
}

func start(t *testing.T, w *world, o Options) *launch {
	t.Helper()
	ctx, signal := context.WithCancelCause(context.Background())
	l := &launch{world: w, signal: signal, result: make(chan error, 1)}
	go func() { l.result <- run(ctx, o, w.dial, w.startDaemon) }()
	synctest.Wait()
	return l
}

func (l *launch) terminate() {
	l.signal(errors.New("terminated"))
	synctest.Wait()
}

// after lets time pass, and whatever was to happen then.
func (l *launch) after(d time.Duration) {
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
}

// wants checks the result, the time it took, and all that was done.
func (l *launch) wants(wantErr string, did ...string) {
	l.t.Helper()
	err := <-l.result
	if diff := cmp.Diff(wantErr, fmt.Sprint(err)); diff != "" {
		l.t.Errorf("error (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(strings.Join(did, "\n"), l.done()); diff != "" {
		l.t.Errorf("done (-want +got):\n%s", diff)
	}
}

func (l *launch) runs() {
	l.t.Helper()
	select {
	case err := <-l.result:
		l.t.Fatalf("ended: %v", err)
	default:
	}
}

const started = "start vm, taps 1"

const left = "\n" + "the pod's network is left wired, because the guest may still be using it"

func TestAnEndIsTheResult(t *testing.T) {
	for end, want := range map[ending]string{
		endShutdown:  "<nil>",
		endMigrated:  "<nil>",
		endDestroyed: `running domain "vm": it was destroyed`,
		endCrashed:   `running domain "vm": it crashed`,
		endSaved:     `running domain "vm": its state was saved`,
		endFailed:    `running domain "vm": the hypervisor failed`,
		endReverted:  `running domain "vm": it was reverted to a snapshot that does not run`,
		endUnknown:   `running domain "vm": it ended, and libvirt does not know how`,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			l := start(t, w, w.options())
			w.mu.Lock()
			w.tell(event{domain: "vm", what: "suspended", why: "I/O error", bad: true})
			w.tell(event{domain: "another", what: "stopped", end: endCrashed})
			w.mu.Unlock()
			l.after(time.Hour)
			l.runs()
			w.ends("vm", end)
			l.wants(want, "setup", started, "teardown")
		})
	}
}

func TestASignalAsksTheGuestUntilItObeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.guest.presses = 3
		l := start(t, w, w.options())
		began := time.Now()
		l.terminate()
		l.wants("<nil>", "setup", started,
			"shutdown vm, first true", "shutdown vm, first false", "shutdown vm, first false", "teardown")
		if took := time.Since(began); took != 2*pressEvery {
			t.Errorf("it took %s", took)
		}
	})
}

func TestAGuestThatDoesNotObeyIsDestroyed(t *testing.T) {
	refuses := errors.New("process does not end")
	tests := []struct {
		name  string
		guest guest
		want  string
		did   []string
	}{
		{
			"by SIGTERM",
			guest{},
			`running domain "vm": the guest did not shut down within 8s and was destroyed`,
			[]string{"destroy vm, force false", "teardown"},
		},
		{
			"by SIGKILL",
			guest{graceful: refuses},
			`running domain "vm": the guest did not shut down within 8s and was destroyed`,
			[]string{"destroy vm, force false", "destroy vm, force true", "teardown"},
		},
		{
			"in vain",
			guest{graceful: refuses, forced: refuses},
			`destroying domain "vm": it still runs` + left,
			[]string{"destroy vm, force false", "destroy vm, force true"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.guest = tt.guest
				o := w.options()
				o.GracePeriod = 8 * time.Second
				l := start(t, w, o)
				l.terminate()
				l.after(o.GracePeriod - time.Nanosecond)
				l.runs()
				l.wants(tt.want, append([]string{"setup", started, "shutdown vm, first true", "shutdown vm, first false"}, tt.did...)...)
			})
		})
	}
}

func TestARunningDomainIsAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.domains["vm"] = &fakeDomain{uuid: someUUID, active: true}
		l := start(t, w, w.options())
		l.after(time.Hour)
		l.runs()
		l.terminate()
		l.wants("<nil>", "setup", "shutdown vm, first true", "teardown")
	})
}

func TestADomainOfTheSameName(t *testing.T) {
	withUUID := strings.Replace(domain, "</name>", "</name><uuid>4DEA22B31D52D8F32516782E98AB3FA0</uuid>", 1)
	other := "11111111-1d52-d8f3-2516-782e98ab3fa0"
	tests := []struct {
		name, xml string
		there     fakeDomain
		want      string
	}{
		{
			"that runs is another machine", withUUID,
			fakeDomain{uuid: other, active: true},
			`domain "vm" of libvirt has the UUID ` + other + `, and that of DOMAIN.xml 4dea22b31d52d8f32516782e98ab3fa0: they are two machines of one name`,
		},
		{
			"that is off is another machine", withUUID,
			fakeDomain{uuid: other, persistent: true},
			`domain "vm" of libvirt has the UUID ` + other + `, and that of DOMAIN.xml 4dea22b31d52d8f32516782e98ab3fa0: they are two machines of one name`,
		},
		{
			"that is off may be another machine", domain,
			fakeDomain{uuid: other, persistent: true},
			`domain "vm" is defined in libvirt and does not run; put <uuid>` + other + `</uuid> into DOMAIN.xml to start it as that, or run "virsh undefine vm"`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.domains["vm"] = &tt.there
				o := w.options()
				o.DomainXML = tt.xml
				start(t, w, o).wants(tt.want)
			})
		})
	}
}

func TestADefinedDomainIsStartedAsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.domains["vm"] = &fakeDomain{uuid: someUUID, persistent: true}
		o := w.options()
		o.DomainXML = strings.Replace(domain, "</name>", "</name><uuid>"+someUUID+"</uuid>", 1)
		l := start(t, w, o)
		w.ends("vm", endCrashed)
		l.wants(`running domain "vm": it crashed`, "setup", started, "teardown")
	})
}

func TestTheNetworkIsPutBackUnlessAMachineUsesIt(t *testing.T) {
	fails := errors.New("no such device")
	running := map[string]*fakeDomain{"vm": {uuid: someUUID, active: true}}
	tests := []struct {
		name   string
		change func(*world)
		want   string
		did    []string
	}{
		{
			"when setup fails", func(w *world) { w.setupErr = fails },
			"no such device",
			[]string{"setup", "teardown"},
		},
		{
			"when setup fails under a running machine", func(w *world) { w.setupErr, w.domains = fails, running },
			"no such device" + left,
			[]string{"setup"},
		},
		{
			"when the domain does not start", func(w *world) { w.startErr = errors.New("no KVM") },
			`starting domain "vm": no KVM`,
			[]string{"setup", "teardown"},
		},
		{
			"when a second daemon is missing", func(w *world) { w.startErr = errors.New("no socket '/run/libvirt/virtlogd-sock'") },
			`starting domain "vm": no socket '/run/libvirt/virtlogd-sock' (run virtlogd, too, or put stdio_handler = "file" into /etc/libvirt/qemu.conf)`,
			[]string{"setup", "teardown"},
		},
		{
			"when there is no vhost", func(w *world) {
				w.startErr = errors.New("vhost-net was requested for an interface, but is unavailable")
			},
			`starting domain "vm": vhost-net was requested for an interface, but is unavailable` +
				` (the container needs /dev/vhost-net, of a kernel with the module vhost_net; or leave vhost to the hypervisor: --vhost off)`,
			[]string{"setup", "teardown"},
		},
		{
			"when a macvtap has no device", func(w *world) {
				w.devices, w.startErr = append(w.devices, net1), errors.New("Unable to create tap device net1: Invalid argument")
			},
			`starting domain "vm": Unable to create tap device net1: Invalid argument` +
				` (net1 is a macvtap, and the container needs its device, /dev/tap and the link's index: it is there for the container that asks for the resource of the device plugin which made the macvtap)`,
			[]string{"setup", "teardown"},
		},
		{
			"when a tap cannot be opened", func(w *world) {
				w.startErr = errors.New("Unable to create tap device tap-eth0: Operation not permitted")
			},
			`starting domain "vm": Unable to create tap device tap-eth0: Operation not permitted`,
			[]string{"setup", "teardown"},
		},
		{
			"when a card contradicts itself", func(w *world) { w.devices[0].Model, w.devices[0].Queues = "e1000e", 4 },
			`putting interface "eth0" into the domain: a card of model "e1000e" cannot have 4 queues; give the tap one, or the card the model virtio`,
			[]string{"setup", "teardown"},
		},
		{
			"and says so when it cannot be", func(w *world) { w.startErr, w.teardownErr = errors.New("no KVM"), fails },
			"starting domain \"vm\": no KVM\nputting the pod's network back: no such device",
			[]string{"setup", "teardown"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				tt.change(w)
				start(t, w, w.options()).wants(tt.want, tt.did...)
			})
		})
	}
}

func TestAPanicPutsTheNetworkBack(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	o.Network = panics{w}
	defer func() {
		if recover() == nil {
			t.Error("the panic was swallowed")
		}
		if got := w.done(); got != "teardown" {
			t.Errorf("done: %q", got)
		}
	}()
	_ = run(t.Context(), o, w.dial, w.startDaemon)
}

type panics struct{ *world }

func (panics) Setup(context.Context) ([]domxml.Device, error) { panic("a fault") }

func TestASignalBeforeTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errors.New("terminated"))
		l := &launch{world: w, result: make(chan error, 1)}
		w.down = true
		l.result <- run(ctx, w.options(), w.dial, w.startDaemon)
		l.wants(`connecting to libvirt at "qemu:///system": terminated (it does not answer)`)
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancelCause(context.Background())
		o := w.options()
		o.Network = terminates{w, cancel}
		l := &launch{world: w, result: make(chan error, 1)}
		l.result <- run(ctx, o, w.dial, w.startDaemon)
		l.wants(`starting domain "vm": terminated`, "setup", "teardown")
	})
}

// terminates is a network during whose setup the launcher is told to stop.
type terminates struct {
	*world
	cancel context.CancelCauseFunc
}

func (n terminates) Setup(ctx context.Context) ([]domxml.Device, error) {
	n.cancel(errors.New("terminated"))
	return n.world.Setup(ctx)
}

func TestADomainThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	o.DomainXML = "<domain/>"
	if err := run(t.Context(), o, w.dial, w.startDaemon); err == nil || err.Error() != "reading the domain: it has no <name>" {
		t.Errorf("got %v", err)
	}
}
