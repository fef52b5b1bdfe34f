package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	// pressEvery is how often a guest is asked again to shut down: while it boots,
	// and in a boot loader, it hears nothing.
	pressEvery = 5 * time.Second
	// settleTime is how long libvirt may take to say that what it destroyed is gone.
	settleTime = 10 * time.Second
)

// watch follows the domain to its end.
func (l *life) watch(ctx context.Context) error {
	stop := ctx.Done()
	var presses *time.Ticker
	var press, deadline, settled <-chan time.Time
	var killed <-chan error
	for {
		var end ending
		var err error
		select {
		case e := <-l.conn.events():
			end = l.report(e)
		case <-l.conn.lost():
			end, err = l.reconnect(ctx)
			if l.destroyed {
				// What was under way went with the connection.
				killed = l.destroy(l.conn)
			}
		case <-stop:
			stop = nil
			l.log.Info("asking the guest to shut down", "grace", l.options.GracePeriod, "reason", context.Cause(ctx))
			go l.press(l.conn, true)
			presses = time.NewTicker(pressEvery)
			defer presses.Stop()
			press, deadline = presses.C, time.After(l.options.GracePeriod)
		case <-press:
			go l.press(l.conn, false)
		case <-deadline:
			press = nil
			killed = l.destroy(l.conn)
		case err := <-killed:
			if err != nil {
				l.log.Error("cannot destroy the domain", "err", err)
			}
			settled = time.After(settleTime)
		case <-settled:
			if end, err = l.check(); end == notEnded {
				err = errors.Join(fmt.Errorf("destroying domain %q: it still runs", l.name), err)
			}
		}
		if err != nil {
			return err
		}
		if end != notEnded {
			l.running = false
			return l.verdict(end)
		}
	}
}

// report logs an event and returns whether it was the end.
func (l *life) report(e event) ending {
	if e.domain != l.name {
		return notEnded
	}
	level := slog.LevelInfo
	if e.bad {
		level = slog.LevelWarn
	}
	attrs := []any{"event", e.what}
	if e.why != "" {
		attrs = append(attrs, "reason", e.why)
	}
	l.log.Log(context.Background(), level, "the domain has an event", attrs...)
	return e.end
}

// press asks the guest to shut down. libvirt may wait for an agent for a minute,
// so it is not waited for.
func (l *life) press(conn hypervisor, first bool) {
	if err := conn.shutdown(l.name, first); err != nil && !errors.Is(err, errNoDomain) {
		l.log.Warn("cannot ask the guest to shut down", "err", err)
	}
}

// destroy ends the machine, the hard way where there is no other.
func (l *life) destroy(conn hypervisor) <-chan error {
	l.log.Warn("the guest did not shut down in time; destroying the domain", "grace", l.options.GracePeriod)
	l.destroyed = true
	done := make(chan error, 1)
	go func() {
		err := conn.destroy(l.name, false)
		if err != nil && !errors.Is(err, errNoDomain) {
			err = conn.destroy(l.name, true)
		}
		if errors.Is(err, errNoDomain) {
			err = nil
		}
		done <- err
	}()
	return done
}

// check asks libvirt whether the domain has ended.
func (l *life) check() (ending, error) {
	m, err := l.conn.find(l.name)
	switch {
	case errors.Is(err, errNoDomain) && l.destroyed:
		return endDestroyed, nil
	case errors.Is(err, errNoDomain):
		return endUnknown, nil
	case err != nil:
		return notEnded, fmt.Errorf("looking for domain %q: %w", l.name, err)
	case m.active:
		return notEnded, nil
	case m.end == notEnded:
		return endUnknown, nil
	default:
		return m.end, nil
	}
}

// reconnect finds libvirt again, and what became of the domain meanwhile. A
// launcher that is to stop waits no longer than the grace period.
func (l *life) reconnect(ctx context.Context) (ending, error) {
	l.log.Warn("lost libvirt; the domain runs on without it")
	l.conn.close()
	bounded, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	again, cancel := withTimeout(bounded, l.options.Timeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		select {
		case <-again.Done():
		case <-time.After(l.options.GracePeriod):
			giveUp(errors.New("the grace period is over"))
		}
	})()
	for {
		conn, err := l.link.open(again)
		if err != nil {
			return notEnded, fmt.Errorf("losing libvirt under domain %q: %w", l.name, err)
		}
		l.conn = conn
		end, err := l.check()
		if err == nil {
			return end, nil
		}
		// It came back only to go again, or does not know its domains yet.
		l.log.Warn("cannot ask libvirt for the domain", "err", err)
		conn.close()
		if !l.link.wait(again, lastPause) {
			return notEnded, err
		}
	}
}

// verdict is Run's result for an end.
func (l *life) verdict(end ending) error {
	l.log.Info("the domain has ended", "reason", end.String())
	switch {
	case end == endShutdown:
		return nil
	case end == endMigrated:
		// The machine runs elsewhere. To call that a failure would have whoever
		// restarts failed pods start it a second time, on the same disks.
		return nil
	case end == endDestroyed && l.destroyed:
		return fmt.Errorf("running domain %q: the guest did not shut down within %s and was destroyed", l.name, l.options.GracePeriod)
	default:
		return fmt.Errorf("running domain %q: %s", l.name, end)
	}
}
