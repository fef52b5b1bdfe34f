package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/podwire/podwire/pkg/kernel"
)

// daemon is libvirt's own, which this process runs.
type daemon interface {
	Done() <-chan struct{}
	Wait() error
	Stop() error
}

type daemonStarter func(ctx context.Context, log *slog.Logger) (daemon, error)

// link is how to get at libvirt.
type link struct {
	uri    string
	wanted bool // a daemon, unless one answers
	dial   dialer
	start  daemonStarter
	daemon daemon // nil where none was started
	log    *slog.Logger
}

const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
	// progress is how often a wait is said to go on.
	progress = 5 * time.Second
)

// ownDaemon keeps libvirt's client, in session mode, from starting a daemon by
// itself where none answers: nobody would end that one, or collect what it leaves
// behind in a container.
func (l *link) ownDaemon() error {
	if !l.wanted {
		return nil
	}
	return os.Setenv("LIBVIRT_AUTOSTART", "0")
}

// open connects, and tries until ctx ends. It never dials twice at a time.
func (l *link) open(ctx context.Context) (hypervisor, error) {
	if err := l.ownDaemon(); err != nil {
		return nil, err
	}
	began := time.Now()
	said := time.Time{}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		conn, err := l.try(ctx)
		if err == nil {
			l.log.Info("connected to libvirt", "uri", l.uri, "dur", time.Since(began))
			return conn, nil
		}
		if ctx.Err() == nil && !errors.Is(err, errNoLibrary) {
			err = errors.Join(l.ensureDaemon(ctx), err)
		}
		if errors.Is(err, errNoLibrary) || errors.Is(err, errNoDaemon) {
			return nil, fmt.Errorf("connecting to libvirt at %q: %w", l.uri, err)
		}
		if time.Since(said) >= progress {
			said = time.Now()
			l.log.Info("waiting for libvirt", "uri", l.uri, "dur", time.Since(began), "err", err)
		}
		if !l.wait(ctx, pause) {
			return nil, fmt.Errorf("connecting to libvirt at %q: %w (%w)", l.uri, context.Cause(ctx), err)
		}
	}
}

// try dials once. A daemon that hangs must not hold the launcher: a connection
// that comes too late is closed.
func (l *link) try(ctx context.Context) (hypervisor, error) {
	type result struct {
		conn hypervisor
		err  error
	}
	done := make(chan result)
	go func() {
		conn, err := l.dial(l.uri)
		select {
		case done <- result{conn, err}:
		case <-ctx.Done():
			if err == nil {
				conn.close()
			}
		}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		return nil, errors.New("it does not answer")
	}
}

func (l *link) wait(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// ensureDaemon starts the daemon where one is wanted and none of ours runs. It
// returns only errors that no waiting mends.
func (l *link) ensureDaemon(ctx context.Context) error {
	if !l.wanted {
		return nil
	}
	if l.daemon != nil {
		if !isClosed(l.daemon.Done()) {
			return nil
		}
		l.log.Warn("libvirt's daemon has ended; starting it again", "err", l.daemon.Wait())
		l.daemon = nil
	}
	// It must outlive ctx: a guest is shut down through it.
	d, err := l.start(context.WithoutCancel(ctx), l.log)
	if errors.Is(err, errNoDaemon) {
		return err
	}
	if err != nil {
		l.log.Warn("cannot start libvirt's daemon yet", "err", err)
		return nil
	}
	l.daemon = d
	return nil
}

func (l *link) stopDaemon() {
	if l.daemon == nil {
		return
	}
	if err := l.daemon.Stop(); err != nil {
		l.log.Warn("libvirt's daemon did not end well", "err", err)
	}
	l.daemon = nil
}

// daemons are libvirt's, the one for QEMU alone first, and where distributions
// put them. In the foreground both stay this process's children; the machines
// that they start do not, and outlive them.
var daemons = []string{
	"/usr/sbin/virtqemud", "/usr/bin/virtqemud", "/usr/local/sbin/virtqemud",
	"/usr/sbin/libvirtd", "/usr/bin/libvirtd", "/usr/local/sbin/libvirtd",
}

var errNoDaemon = errors.New("neither virtqemud nor libvirtd is installed; the image needs one (libvirt-daemon, libvirt-daemon-driver-qemu)")

func startDaemon(ctx context.Context, log *slog.Logger) (daemon, error) {
	for _, path := range daemons {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		log.Info("starting libvirt's daemon", "program", filepath.Base(path))
		child, err := kernel.StartChild(ctx, []string{path}, log)
		if err != nil {
			return nil, err
		}
		return child, nil
	}
	return nil, errNoDaemon
}
