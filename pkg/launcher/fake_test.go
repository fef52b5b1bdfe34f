package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/domxml"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// world is a libvirt with its domains, a pod's network, and the list of what was
// done to both. It refuses what libvirt refuses.
type world struct {
	t *testing.T

	mu      sync.Mutex
	did     []string
	down    bool          // libvirt does not answer
	hangs   chan struct{} // a dial waits for it
	domains map[string]*fakeDomain
	conns   []*fakeConn
	guest   guest
	devices []domxml.Device

	startErr, setupErr, teardownErr error
	onStart                         func()
	daemonErr                       error
	daemons                         []*fakeDaemon
}

// guest is how a machine behaves.
type guest struct {
	presses  int // shuts down when asked as often; 0 for never
	graceful error
	forced   error
}

type fakeDomain struct {
	uuid       string
	persistent bool
	active     bool
	end        ending
	pressed    int
}

const someUUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"

func newWorld(t *testing.T) *world {
	return &world{t: t, domains: map[string]*fakeDomain{}, guest: guest{presses: 1}, devices: []domxml.Device{eth0}}
}

// eth0 is on a bridge.
var eth0 = domxml.Device{Interface: plan.Interface{
	PodInterface: "eth0", Binding: config.Bridge, Bridge: "pw-eth0", Tap: "tap-eth0",
	MAC: netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 1, 7}, MTU: 1450, Queues: 1,
}}

// net1 is a macvtap.
var net1 = domxml.Device{Interface: plan.Interface{
	PodInterface: "net1", Binding: config.Macvtap, Tap: "net1", MAC: netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 1, 8}, MTU: 1500,
}}

// note must be called with the lock held.
func (w *world) note(format string, args ...any) { w.did = append(w.did, fmt.Sprintf(format, args...)) }

func (w *world) done() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.did, "\n")
}

func (w *world) dial(string) (hypervisor, error) {
	w.mu.Lock()
	hangs := w.hangs
	w.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return nil, errors.New("no such socket")
	}
	c := &fakeConn{w: w, occurred: make(chan event, 8), gone: make(chan struct{})}
	w.conns = append(w.conns, c)
	return c, nil
}

// crash ends libvirt, and not its machines.
func (w *world) crash() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	w.cut()
}

func (w *world) cut() {
	for _, c := range w.conns {
		close(c.gone)
	}
	w.conns = nil
}

func (w *world) back() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
}

// ends ends a machine and tells whoever listens.
func (w *world) ends(name string, end ending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended(name, end)
}

func (w *world) ended(name string, end ending) {
	d := w.domains[name]
	if d == nil || !d.active {
		return
	}
	d.active, d.end = false, end
	if !d.persistent {
		delete(w.domains, name)
	}
	w.tell(event{domain: name, what: "stopped", end: end})
}

func (w *world) tell(e event) {
	for _, c := range w.conns {
		c.occurred <- e
	}
}

type fakeConn struct {
	w        *world
	occurred chan event
	gone     chan struct{}
}

var errReset = errors.New("connection reset")

func (c *fakeConn) events() <-chan event  { return c.occurred }
func (c *fakeConn) lost() <-chan struct{} { return c.gone }

func (c *fakeConn) close() {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	for i, other := range c.w.conns {
		if other == c {
			c.w.conns = append(c.w.conns[:i:i], c.w.conns[i+1:]...)
		}
	}
}

func (c *fakeConn) domain(name string) (*fakeDomain, error) {
	if isClosed(c.gone) {
		return nil, errReset
	}
	d := c.w.domains[name]
	if d == nil {
		return nil, errNoDomain
	}
	return d, nil
}

func (c *fakeConn) find(name string) (machine, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	d, err := c.domain(name)
	if err != nil {
		return machine{}, err
	}
	return machine{uuid: d.uuid, active: d.active, end: d.end}, nil
}

func (c *fakeConn) start(text string) error {
	name, err := domxml.Name(text)
	if err != nil {
		return err
	}
	uuid, err := domxml.UUID(text)
	if err != nil {
		return err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	d := c.w.domains[name]
	switch {
	case c.w.startErr != nil:
		return c.w.startErr
	case d != nil && d.active:
		return errors.New("it runs already")
	case d != nil && d.uuid != uuid:
		return fmt.Errorf("domain %q already exists with uuid %s", name, d.uuid)
	case d == nil:
		d = &fakeDomain{uuid: uuid}
		c.w.domains[name] = d
	}
	d.active = true
	c.w.note("start %s, taps %d", name, strings.Count(text, "dev='tap-"))
	c.w.tell(event{domain: name, what: "started"})
	if c.w.onStart != nil {
		c.w.onStart()
		return errReset
	}
	return nil
}

func (c *fakeConn) shutdown(name string, first bool) error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	d, err := c.domain(name)
	if err != nil {
		return err
	}
	d.pressed++
	c.w.note("shutdown %s, first %t", name, first)
	if d.pressed == c.w.guest.presses {
		c.w.ended(name, endShutdown)
	}
	return nil
}

func (c *fakeConn) destroy(name string, force bool) error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if _, err := c.domain(name); err != nil {
		return err
	}
	c.w.note("destroy %s, force %t", name, force)
	err := c.w.guest.graceful
	if force {
		err = c.w.guest.forced
	}
	if err == nil {
		c.w.ended(name, endDestroyed)
	}
	return err
}

// Setup and Teardown implement Network.
func (w *world) Setup(context.Context) ([]domxml.Device, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("setup")
	if w.setupErr != nil {
		return nil, w.setupErr
	}
	return w.devices, nil
}

func (w *world) Teardown(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("teardown")
	return errors.Join(ctx.Err(), w.teardownErr)
}

type fakeDaemon struct {
	w    *world
	gone chan struct{}
}

func (w *world) startDaemon(context.Context, *slog.Logger) (daemon, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("start daemon")
	if w.daemonErr != nil {
		return nil, w.daemonErr
	}
	d := &fakeDaemon{w: w, gone: make(chan struct{})}
	w.daemons = append(w.daemons, d)
	w.down = false
	return d, nil
}

func (d *fakeDaemon) Done() <-chan struct{} { return d.gone }
func (d *fakeDaemon) Wait() error           { <-d.gone; return errors.New("exit status 1") }

func (d *fakeDaemon) Stop() error {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.w.note("stop daemon")
	return nil
}

// dies ends a daemon as its own fault.
func (d *fakeDaemon) dies() {
	close(d.gone)
	d.w.crash()
}

const domain = `<domain type='kvm'><name>vm</name><devices/></domain>`

func (w *world) options() Options {
	return Options{
		DomainXML: domain, GracePeriod: 30 * time.Second, Timeout: 20 * time.Second,
		Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)), Network: w,
	}
}
