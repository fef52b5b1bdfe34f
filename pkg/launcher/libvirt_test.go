//go:build cgo && libvirt_dlopen

package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podwire/podwire/pkg/domxml"
	"libvirt.org/go/libvirt"
)

// The tests of this file talk to libvirt's own mock hypervisor, which is in its
// client library. Its machines live as long as a connection to it is open.
const mock = "test:///default"

const machineText = `<domain type='test'><name>vm</name><memory>8192</memory><os><type>hvm</type></os></domain>`

// hold keeps the mock's machines alive for a test.
func hold(t *testing.T) *connection {
	t.Helper()
	h, err := dial(mock)
	if err != nil {
		t.Fatal(err)
	}
	c := h.(*connection)
	t.Cleanup(c.close)
	return c
}

// record is a log that a test can wait on.
type record struct {
	t    *testing.T
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.t.Output().Write(p)
	return r.text.Write(p)
}

func (r *record) await(line string) {
	r.t.Helper()
	r.awaitN(line, 1)
}

func (r *record) awaitN(line string, times int) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		found := strings.Count(r.text.String(), line) >= times
		r.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain for %q in the log", line)
		}
	}
}

// real runs a launcher with the real library.
type real struct {
	*world
	log    *record
	signal context.CancelFunc
	result chan error
}

func launchReal(t *testing.T, change func(*Options)) *real {
	t.Helper()
	w := newWorld(t)
	r := &real{world: w, log: &record{t: t}, result: make(chan error, 1)}
	o := w.options()
	o.Connect = mock
	o.DomainXML = machineText
	o.Log = slog.New(slog.NewTextHandler(r.log, nil))
	change(&o)
	ctx, cancel := context.WithCancel(t.Context())
	r.signal = cancel
	go func() { r.result <- Run(ctx, o) }()
	return r
}

func (r *real) wants(wantErr string, did ...string) {
	r.t.Helper()
	err := <-r.result
	if diff := cmp.Diff(wantErr, fmt.Sprint(err)); diff != "" {
		r.t.Errorf("error (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(strings.Join(did, "\n"), r.done()); diff != "" {
		r.t.Errorf("done (-want +got):\n%s", diff)
	}
}

func TestMockStartsAndShutsDown(t *testing.T) {
	c := hold(t)
	r := launchReal(t, func(*Options) {})
	r.log.await("event=started")
	if m, err := c.find("vm"); err != nil || !m.active {
		t.Errorf("while it runs: %+v, %v", m, err)
	}
	text := describe(t, c, "vm")
	for _, want := range []string{`<interface type='ethernet'>`, `<target dev='tap-eth0' managed='no'/>`, `<mtu size='1450'/>`, `<alias name='ua-eth0'/>`, `<rom enabled='no'/>`} {
		if !strings.Contains(text, want) {
			t.Errorf("libvirt's domain has no %s:\n%s", want, text)
		}
	}
	r.signal()
	r.wants("<nil>", "setup", "teardown")
	if _, err := c.find("vm"); !errors.Is(err, errNoDomain) {
		t.Errorf("a transient domain is still known: %v", err)
	}
}

// Whatever a card is set to, libvirt's own schema and parser know it, and keep it.
func TestLibvirtTakesEveryCard(t *testing.T) {
	c := hold(t)
	many := eth0
	many.Queues = 4
	tests := map[string]struct {
		device domxml.Device
		card   domxml.Card
		want   []string
	}{
		"none":    {eth0, domxml.Card{}, []string{`<model type='virtio'/>`}},
		"queues":  {many, domxml.Card{}, []string{`<driver queues='4'/>`}},
		"vhost":   {many, domxml.Card{Model: "virtio-non-transitional", Vhost: "on"}, []string{`<model type='virtio-non-transitional'/>`, `<driver name='vhost' queues='4'/>`}},
		"e1000e":  {eth0, domxml.Card{Model: "e1000e", Vhost: "off"}, []string{`<model type='e1000e'/>`, `<mtu size='1450'/>`}},
		"address": {eth0, domxml.Card{PCIAddress: "0000:01:1f.7"}, []string{`<address type='pci' domain='0x0000' bus='0x01' slot='0x1f' function='0x7'/>`}},
		"macvtap": {net1, domxml.Card{}, []string{`<interface type='ethernet'>`, `<target dev='net1' managed='no'/>`, `<mtu size='1500'/>`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.device.Card = tt.card
			// Its events come to whoever listens, also in another test.
			text, err := domxml.Put(strings.Replace(machineText, ">vm<", ">card<", 1), []domxml.Device{tt.device})
			if err != nil {
				t.Fatal(err)
			}
			d, err := c.virt.DomainCreateXML(text, libvirt.DOMAIN_START_VALIDATE)
			if err != nil {
				t.Fatalf("%v\n%s", plain(err), text)
			}
			defer func() {
				if err := errors.Join(d.Destroy(), d.Free()); err != nil {
					t.Error(err)
				}
			}()
			got := describe(t, c, "card")
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("libvirt's domain has no %s:\n%s", want, got)
				}
			}
		})
	}
}

func describe(t *testing.T, c *connection, name string) string {
	t.Helper()
	var text string
	err := c.withDomain(name, func(d *libvirt.Domain) (err error) {
		text, err = d.GetXMLDesc(0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestMockReportsWhatHappens(t *testing.T) {
	c := hold(t)
	r := launchReal(t, func(*Options) {})
	r.log.await("event=started")
	for _, step := range []struct {
		do  func(*libvirt.Domain) error
		log string
	}{
		{(*libvirt.Domain).Suspend, "event=suspended reason=paused"},
		{(*libvirt.Domain).Resume, "event=resumed"},
		{(*libvirt.Domain).Destroy, `level=WARN msg="the domain has an event" domain=vm event=stopped reason="it was destroyed"`},
	} {
		if err := c.withDomain("vm", step.do); err != nil {
			t.Fatal(err)
		}
		r.log.await(step.log)
	}
	r.wants(`running domain "vm": it was destroyed`, "setup", "teardown")
}

func TestMockAdopts(t *testing.T) {
	c := hold(t)
	uuid := define(t, c, "kept")
	named := strings.Replace(machineText, ">vm<", ">kept<", 1)
	r := launchReal(t, func(o *Options) { o.DomainXML = named })
	r.log.await("adopting it")
	r.log.await("is wired")
	r.signal()
	r.wants("<nil>", "setup", "teardown")
	if m, err := c.find("kept"); err != nil || m.active || m.end != endShutdown {
		t.Errorf("afterwards: %+v, %v", m, err)
	}

	r = launchReal(t, func(o *Options) { o.DomainXML = named })
	r.wants(`domain "kept" is defined in libvirt and does not run; put <uuid>` + uuid +
		`</uuid> into DOMAIN.xml to start it as that, or run "virsh undefine kept"`)

	r = launchReal(t, func(o *Options) {
		o.DomainXML = strings.Replace(named, "</name>", "</name><uuid>"+uuid+"</uuid>", 1)
	})
	r.log.await("event=started")
	r.signal()
	r.wants("<nil>", "setup", "teardown")
}

// define makes a persistent domain that runs, and returns its UUID.
func define(t *testing.T, c *connection, name string) string {
	t.Helper()
	d, err := c.virt.DomainDefineXML(strings.Replace(machineText, ">vm<", ">"+name+"<", 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.withDomain(name, (*libvirt.Domain).Undefine); err != nil {
			t.Error(err)
		}
		_ = d.Free()
	})
	if err := d.Create(); err != nil {
		t.Fatal(err)
	}
	uuid, err := d.GetUUIDString()
	if err != nil {
		t.Fatal(err)
	}
	return uuid
}

func TestMockRefusesADomain(t *testing.T) {
	hold(t)
	r := launchReal(t, func(o *Options) { o.DomainXML = strings.Replace(o.DomainXML, "hvm", "nonsense", 1) })
	err := <-r.result
	if err == nil || !strings.HasPrefix(err.Error(), `starting domain "vm": `) || strings.Contains(err.Error(), "virError") {
		t.Errorf("got %v", err)
	}
	if _, ok := errors.AsType[libvirt.Error](err); !ok {
		t.Errorf("libvirt's own error is not in the chain of %v", err)
	}
	if got := r.done(); got != "setup\nteardown" {
		t.Errorf("done: %q", got)
	}
}

func TestDestroyFallsBackToForce(t *testing.T) {
	c := hold(t)
	if err := c.start(strings.Replace(machineText, ">vm<", ">doomed<", 1)); err != nil {
		t.Fatal(err)
	}
	l := &life{name: "doomed", log: slog.New(slog.DiscardHandler)}
	if err := <-l.destroy(c); err != nil {
		t.Fatal(err)
	}
	l.conn = c
	if end, err := l.check(); end != endDestroyed || err != nil {
		t.Errorf("afterwards: %v, %v", end, err)
	}
}

func TestAClosedConnectionRefusesCalls(t *testing.T) {
	c := hold(t)
	if err := c.start(strings.Replace(machineText, ">vm<", ">off<", 1)); err != nil {
		t.Fatal(err)
	}
	if err := c.shutdown("off", false); err != nil {
		t.Errorf("the power button alone: %v", err)
	}
	c.close()
	for {
		_, err := c.find("test")
		if errors.Is(err, errClosed) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLifecycleInWords(t *testing.T) {
	tests := []struct {
		event  libvirt.DomainEventType
		detail int
		want   event
	}{
		{libvirt.DOMAIN_EVENT_STOPPED, int(libvirt.DOMAIN_EVENT_STOPPED_SHUTDOWN), event{what: "stopped", why: "the guest shut down", end: endShutdown}},
		{libvirt.DOMAIN_EVENT_STOPPED, int(libvirt.DOMAIN_EVENT_STOPPED_CRASHED), event{what: "stopped", why: "it crashed", end: endCrashed, bad: true}},
		{libvirt.DOMAIN_EVENT_STOPPED, int(libvirt.DOMAIN_EVENT_STOPPED_RECREATED), event{what: "recreated"}},
		{libvirt.DOMAIN_EVENT_STOPPED, 99, event{what: "stopped", why: "it ended, and libvirt does not know how", end: endUnknown, bad: true}},
		{libvirt.DOMAIN_EVENT_SUSPENDED, int(libvirt.DOMAIN_EVENT_SUSPENDED_IOERROR), event{what: "suspended", why: "I/O error", bad: true}},
		{libvirt.DOMAIN_EVENT_SHUTDOWN, int(libvirt.DOMAIN_EVENT_SHUTDOWN_GUEST), event{what: "shut down", why: "by the guest"}},
		{libvirt.DOMAIN_EVENT_CRASHED, 0, event{what: "crashed", why: "the guest's kernel panicked", bad: true}},
		{libvirt.DOMAIN_EVENT_DEFINED, 0, event{what: "defined"}},
		{libvirt.DOMAIN_EVENT_UNDEFINED, 0, event{what: "undefined"}},
		{libvirt.DOMAIN_EVENT_PMSUSPENDED, 0, event{what: "asleep"}},
		{99, 0, event{what: "unknown"}},
	}
	for _, tt := range tests {
		got := lifecycle(&libvirt.DomainEventLifecycle{Event: tt.event, Detail: tt.detail})
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(event{})); diff != "" {
			t.Errorf("%d/%d (-want +got):\n%s", tt.event, tt.detail, diff)
		}
	}
	got := ioError(&libvirt.DomainEventIOErrorReason{SrcPath: "/d.img", DevAlias: "virtio-disk0", Action: libvirt.DOMAIN_EVENT_IO_ERROR_PAUSE, Reason: "enospc"})
	if want := "virtio-disk0 (/d.img): the guest is paused: enospc"; got.why != want {
		t.Errorf("got %q, want %q", got.why, want)
	}
}
