package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/podwire/podwire/pkg/domxml"
)

// Network is the pod's network, as far as a launcher has to do with it.
type Network interface {
	// Setup wires the pod's interfaces and serves them; it returns when the server
	// answers. What is wired already stays as it is. The server must outlive ctx,
	// which only bounds the call: a guest that shuts down still wants answers.
	Setup(ctx context.Context) ([]domxml.Device, error)
	// Teardown stops serving and puts the pod's network back. It is called once
	// Setup has been, whether that failed or not.
	Teardown(ctx context.Context) error
}

// Options is what Run needs.
type Options struct {
	DomainXML     string        // the domain, without the interfaces
	Connect       string        // libvirt's URI; qemu:///system where empty
	StartLibvirtd bool          // run libvirt's daemon unless one answers
	GracePeriod   time.Duration // from asking the guest to shut down until it is destroyed
	Timeout       time.Duration // for libvirt to answer, at first and each time it is lost; 30 s where 0
	Log           *slog.Logger  // none where nil
	Network       Network
}

const defaultTimeout = 30 * time.Second

// ErrNetworkLeft is in the chain of Run's error where the domain still runs, or
// may, so that the pod's network was left as it is.
var ErrNetworkLeft = errors.New("the pod's network is left wired, because the guest may still be using it")

// Run launches the domain and returns when it has ended: nil where the guest
// shut down, or has moved to another host; else an error that says how it ended,
// or why it did not start. The end of ctx asks the guest to shut down.
//
// A domain of that name that already runs is adopted as it is.
func Run(ctx context.Context, o Options) error {
	return run(ctx, o, dial, startDaemon)
}

func run(ctx context.Context, o Options, dial dialer, start daemonStarter) error {
	name, err := domxml.Name(o.DomainXML)
	if err != nil {
		return err
	}
	uuid, err := domxml.UUID(o.DomainXML)
	if err != nil {
		return err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Connect == "" {
		o.Connect = "qemu:///system"
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	l := &life{
		options: o, name: name, uuid: uuid, log: o.Log.With("domain", name),
		link: link{uri: o.Connect, wanted: o.StartLibvirtd, dial: dial, start: start, log: o.Log},
	}
	return l.run(ctx)
}

// life is one domain's, as this launcher sees it.
type life struct {
	options Options
	name    string
	uuid    string // as DOMAIN.xml asks for; may be empty
	log     *slog.Logger
	link    link
	conn    hypervisor

	running   bool // the machine runs, or may
	destroyed bool // the launcher had it destroyed
}

func (l *life) run(ctx context.Context) (err error) {
	defer l.link.stopDaemon()
	if err := l.connect(ctx); err != nil {
		return err
	}
	defer func() { l.conn.close() }()
	if l.running, err = l.look(); err != nil {
		return err
	}
	// Deferred calls run in a panic, too.
	defer func() { err = l.leave(ctx, err) }()
	if err := l.begin(ctx); err != nil {
		return err
	}
	return l.watch(ctx)
}

func (l *life) connect(ctx context.Context) error {
	ctx, cancel := withTimeout(ctx, l.options.Timeout)
	defer cancel()
	conn, err := l.link.open(ctx)
	l.conn = conn
	return err
}

// withTimeout makes a context that says, as its cause, what the time was for.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("it did not answer within %s", d))
}

// look reports whether the domain runs already.
func (l *life) look() (bool, error) {
	m, err := l.conn.find(l.name)
	switch {
	case errors.Is(err, errNoDomain):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking for domain %q: %w", l.name, err)
	case l.uuid != "" && !sameUUID(l.uuid, m.uuid):
		return false, fmt.Errorf("domain %q of libvirt has the UUID %s, and that of DOMAIN.xml %s: they are two machines of one name",
			l.name, m.uuid, l.uuid)
	case !m.active && l.uuid == "":
		return false, fmt.Errorf("domain %q is defined in libvirt and does not run; put <uuid>%s</uuid> into DOMAIN.xml to start it as that, or run \"virsh undefine %s\"",
			l.name, m.uuid, l.name)
	}
	return m.active, nil
}

// begin wires the network, and starts the domain unless it runs.
func (l *life) begin(ctx context.Context) error {
	if l.running {
		l.log.Info("found the domain running; adopting it")
	}
	began := time.Now()
	devices, err := l.options.Network.Setup(ctx)
	if err != nil {
		return err
	}
	l.log.Info("the pod's network is wired", "interfaces", len(devices), "dur", time.Since(began))
	if l.running {
		return nil
	}
	text, err := domxml.Put(l.options.DomainXML, devices)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("starting domain %q: %w", l.name, context.Cause(ctx))
	}
	return l.start(ctx, text, devices)
}

func (l *life) start(ctx context.Context, text string, devices []domxml.Device) error {
	began := time.Now()
	// From here on it may run, whatever becomes of the call.
	l.running = true
	err := l.conn.start(text)
	if err == nil {
		l.log.Info("started the domain", "dur", time.Since(began))
		return nil
	}
	err = fmt.Errorf("starting domain %q: %w%s", l.name, err, advice(err, devices))
	// Where libvirt went away in the midst of it, only libvirt can say what came of it.
	end, checkErr := l.check()
	if checkErr != nil {
		end, checkErr = l.reconnect(ctx)
	}
	if checkErr != nil {
		return errors.Join(err, checkErr)
	}
	if end != notEnded {
		l.running = false
		return err
	}
	l.log.Warn("the domain runs, although starting it failed", "err", err)
	return nil
}

// teardownTime bounds the way back; a pod that is being deleted has not much
// more, and its namespace goes with it anyway.
const teardownTime = 30 * time.Second

// leave puts the pod's network back if no machine uses it.
func (l *life) leave(ctx context.Context, err error) error {
	if l.running {
		return errors.Join(err, ErrNetworkLeft)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownTime)
	defer cancel()
	if tornErr := l.options.Network.Teardown(ctx); tornErr != nil {
		return errors.Join(err, fmt.Errorf("putting the pod's network back: %w", tornErr))
	}
	return err
}

// sameUUID compares UUIDs as libvirt reads them, with dashes or without.
func sameUUID(a, b string) bool {
	return strings.EqualFold(strings.ReplaceAll(a, "-", ""), strings.ReplaceAll(b, "-", ""))
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
