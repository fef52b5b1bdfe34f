package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/podwire/podwire/internal/survive"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
	"github.com/podwire/podwire/pkg/record"
	"github.com/podwire/podwire/pkg/serve"
)

// errNotWired says that there is nothing to serve or to report on.
var errNotWired = errors.New("no interface of this pod is wired; run \"podwire setup\" first, or have the node's CNI plugin wire it (podwire cni --help)")

// errStarting is what a server says of itself that may still fail to start.
var errStarting = errors.New("starting")

// Serve answers the guests of the wired interfaces until ctx ends or every
// server was asked to stop. It calls ready when all of them answer.
func (a *Agent) Serve(ctx context.Context, ready func()) error {
	a.alone = true
	if err := a.kernel.Stay(); err != nil {
		return err
	}
	if os.Getenv(lockedEnv) == "" {
		unlock, err := a.lock(ctx)
		if err != nil {
			return err
		}
		release := sync.OnceFunc(unlock)
		defer release()
		answers := ready
		ready = func() { release(); answers() }
	}
	return a.serve(ctx, a.config.Interfaces, ready)
}

// garbage is how much of it, in percent of what is in use, a server lets lie about. There is
// little work, so that collecting it costs nothing; by default, a guest that asks a lot
// would have the server grow by three megabytes.
const garbage = 25

// serve is Serve for the named interfaces; for all that are wired where none is
// named. Until it calls ready the lock must be held: two servers of one tap would
// answer everything twice.
func (a *Agent) serve(ctx context.Context, names []string, ready func()) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	if err := a.kernel.Require(kernel.NeedNetRaw); err != nil {
		return err
	}
	records, err := a.wired(names)
	if err != nil {
		return errors.Join(err, a.unmarkReady())
	}
	// One without addresses is joined to its network, and told nothing.
	records = slices.DeleteFunc(records, func(r record.Record) bool { return !r.Lease.Served() })
	if len(names) == 0 {
		records = a.leftOver(ctx, records)
	}
	services, err := a.openServices(ctx, records)
	if err != nil {
		return err
	}
	// One that a crash left would say too early that the guest is answered.
	if err := a.unmarkReady(); err != nil {
		abandonServices(services)
		return err
	}
	if err := a.startServices(services); err != nil {
		return err
	}
	stopFollowing := a.startFollowing(ctx, services)
	defer stopFollowing()
	if err := a.sayReady(services, records); err != nil {
		stopServices(services)
		return errors.Join(append([]error{err}, waitServices(services)...)...)
	}
	ready()
	for _, s := range services {
		a.log.Info("serving", "link", s.name)
	}
	if len(services) == 0 {
		a.log.Info("no interface of this pod has an address: there is nothing to serve")
		<-ctx.Done()
		a.endReady()
		return nil
	}
	return errors.Join(waitServices(services)...)
}

// leftOver are those that no other server answers for: an interface that came later
// is served beside it. Where there is none, all are, and to serve them says so.
func (a *Agent) leftOver(ctx context.Context, records []record.Record) []record.Record {
	var left []record.Record
	for _, r := range records {
		if _, up := a.serving(ctx, r); up {
			a.log.Info("another server answers already", "link", r.Interface.PodInterface)
		} else {
			left = append(left, r)
		}
	}
	if len(left) == 0 {
		return records
	}
	return left
}

// service is the server of one interface, with the socket it is spoken to on.
type service struct {
	name     string
	netns    netstate.Identity
	server   *serve.Server
	dns      *forwarder // nil unless the guest's DNS is relayed
	control  *serve.Control
	ctx      context.Context // of the server; its end ends the service
	stop     context.CancelFunc
	confined atomic.Pointer[serve.Confinement] // of the process
	telling  sync.Mutex                        // held from reading what the guest is to be told to telling it
	told     lease.Lease                       // what the guest is told
	ready    atomic.Bool                       // it may be relied on
	asked    atomic.Bool                       // to stop
	open     chan struct{}                     // closed when the tap is open
	done     chan struct{}                     // closed when the server answers no more
	err      error                             // why it ended; set before done is closed
	all      sync.WaitGroup
}

// openServices opens the control sockets.
func (a *Agent) openServices(ctx context.Context, records []record.Record) ([]*service, error) {
	var services []*service
	for _, r := range records {
		s, err := a.openService(ctx, r)
		if err != nil {
			abandonServices(services)
			return nil, err
		}
		services = append(services, s)
	}
	return services, nil
}

// wired returns the records of the named interfaces, or of all, which are wired.
func (a *Agent) wired(names []string) ([]record.Record, error) {
	id, err := a.kernel.Identity()
	if err != nil {
		return nil, err
	}
	records, err := a.records(names, id)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r.Phase != record.Applied {
			return nil, fmt.Errorf("%q: its setup or teardown was cut off: %w", r.Interface.PodInterface, errNotWired)
		}
	}
	if len(records) == 0 {
		return nil, errNotWired
	}
	return records, nil
}

func (a *Agent) openService(ctx context.Context, r record.Record) (*service, error) {
	s := &service{name: r.Interface.PodInterface, netns: r.Snapshot.NetNS, told: r.Lease, open: make(chan struct{}), done: make(chan struct{})}
	s.ctx, s.stop = context.WithCancel(ctx)
	if r.HostUnknown { // nobody has said them yet
		for _, w := range r.Warnings {
			a.log.Warn(w, "link", s.name)
		}
	}
	// First, since it says where another server is there.
	var err error
	s.control, err = serve.Listen(a.dir.Socket(s.name), a.log, func(op serve.Op) (*serve.Status, error) {
		return a.control(s, op)
	})
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("%q: %w", s.name, a.dir.Advise(err))
	}
	options := a.serverOptions(r)
	if len(r.Lease.Server.DNS) > 0 {
		if s.dns, err = a.openDNS(s.ctx, r); err != nil {
			abandonServices([]*service{s})
			return nil, fmt.Errorf("%q: %w", s.name, err)
		}
		options.DNS = s.dns
	}
	s.server = serve.New(options)
	return s, nil
}

func (a *Agent) serverOptions(r record.Record) serve.Options {
	tap, port := r.Interface.Tap, r.Interface.PodInterface
	open := a.kernel.OpenTap
	if r.Interface.Binding == config.Macvtap {
		open = a.kernel.OpenLink // past the queue nothing would be turned round to the guest
	}
	return serve.Options{
		Tap: tap, Lease: r.Lease, Log: a.log.With("link", port),
		Open:     opener(open, tap, plan.Answered),
		OpenPort: opener(a.kernel.OpenTap, port, plan.Gateways),
	}
}

// heardConn is a packet socket that hears what a lease says.
type heardConn struct {
	*kernel.TapConn
	heard func(lease.Lease) []plan.Match
}

// Reattach does what pkg/serve asks of a connection.
func (c heardConn) Reattach(ctx context.Context, l lease.Lease) error {
	return c.TapConn.Reattach(ctx, c.heard(l))
}

func opener(open func(string, []plan.Match) (*kernel.TapConn, error), link string, heard func(lease.Lease) []plan.Match) func(context.Context, lease.Lease) (serve.Conn, error) {
	return func(_ context.Context, l lease.Lease) (serve.Conn, error) {
		conn, err := open(link, heard(l))
		if err != nil {
			return nil, err
		}
		return heardConn{conn, heard}, nil
	}
}

// control does what a server is asked over its socket.
func (a *Agent) control(s *service, op serve.Op) (*serve.Status, error) {
	switch op {
	case serve.OpStatus:
		if !s.ready.Load() {
			return nil, errStarting
		}
	case serve.OpReload:
		if err := a.reread(s); err != nil {
			return nil, err
		}
	case serve.OpStop:
		s.asked.Store(true)
		s.stop()
		<-s.done
		// Gone before the answer, so that it cannot be a successor's.
		s.control.Close()
	default:
		return nil, fmt.Errorf("unknown request %q", op)
	}
	st := s.server.Status()
	maps.Copy(st.Counts, s.dns.counts())
	st.NetNS, st.Degraded, st.Confinement = s.netns, s.dns.lacks(), s.confined.Load()
	return &st, nil
}

// startServices returns when all taps are open, or when one could not be opened
// and all have ended.
func (a *Agent) startServices(services []*service) error {
	var left atomic.Int32
	left.Store(int32(len(services)))
	for _, s := range services {
		survive.Go(&s.all, a.panicked, func() { s.control.Serve(s.ctx) })
		survive.Go(&s.all, a.panicked, func() {
			defer close(s.done)
			defer s.stop()
			s.err = errPanicked
			defer func() {
				// One that was asked to stop is not needed any more: the others are ready.
				if last := left.Add(-1) == 0; last || !s.asked.Load() {
					a.endReady()
				}
			}()
			defer s.dns.close() // which has not run where the tap could not be opened
			s.err = s.server.Run(s.ctx, func() { close(s.open) })
		})
	}
	for _, s := range services {
		select {
		case <-s.open:
		case <-s.done:
			if s.err != nil {
				stopServices(services)
				return errors.Join(waitServices(services)...)
			}
		}
	}
	return nil
}

// errPanicked ends a service that has panicked where it cannot go on, which is nowhere
// that its guest could lead it.
var errPanicked = errors.New("the server panicked")

func (a *Agent) panicked(p any, stack []byte) {
	a.log.Error("the server panicked", "err", fmt.Sprint(p), "stack", string(stack))
}

// abandonServices closes what was opened and never started.
func abandonServices(services []*service) {
	for _, s := range services {
		s.stop()
		s.dns.close()
		s.control.Close()
	}
}

func stopServices(services []*service) {
	for _, s := range services {
		s.stop()
	}
}

func waitServices(services []*service) []error {
	errs := make([]error, len(services))
	for i, s := range services {
		s.all.Wait()
		errs[i] = s.err
	}
	return errs
}
