package bindings

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"

	"github.com/podwire/podwire/tests/pod"
)

// begin wires the pod, plugs the guest in and has it configured.
func (w *world) begin() (err error) {
	if w.to, err = w.wire("prestart"); err != nil {
		return err
	}
	if w.guest, err = w.newGuest(w.to.MAC, w.to.MTU); err != nil {
		return err
	}
	if err := w.guest.cable.plug(w.vm.Space, w.to.Tap); err != nil {
		return err
	}
	if err := w.bind(w.guest); err != nil {
		return err
	}
	if err := errors.Join(w.serve(w.guest.Space, port), w.serveHTTP(w.guest.Space)); err != nil {
		return err
	}
	return w.toldIs()
}

// cniCheck has the CNI plugin say whether the pod is as it made it.
func (w *world) cniCheck() error { return w.vm.Check(w.ctx, "eth0") }

// twice runs setup again: nothing changes, and connections through the guest go on.
func (w *world) twice() error {
	out, in, err := w.established()
	if err != nil {
		return err
	}
	defer out.Close()
	defer in.Close()
	wired, err := w.settled()
	if err != nil {
		return err
	}
	if _, err := w.wire("setup"); err != nil {
		return err
	}
	return errors.Join(w.unchanged(wired), out.goesOn(callTime), in.goesOn(callTime), w.well())
}

// established are connections from the guest, and to it.
func (w *world) established() (out, in *talk, err error) {
	if out, err = w.dial(w.guest.Space, netip.AddrPortFrom(far4, port), callTime); err != nil {
		return nil, nil, err
	}
	if in, err = w.dial(w.far.Space, netip.AddrPortFrom(w.own(far6), port), callTime); err != nil {
		return nil, nil, errors.Join(err, out.Close())
	}
	return out, in, errors.Join(out.goesOn(callTime), in.goesOn(callTime))
}

// well: status finds nothing wrong.
func (w *world) well() error {
	st, err := w.status()
	if err == nil && (!st.Applied || !st.Serving || len(st.Drift) > 0) {
		err = fmt.Errorf("status: applied %t, serving %t, drift %q", st.Applied, st.Serving, st.Drift)
	}
	return err
}

// loss is something that podwire made and that another takes away.
type loss struct {
	how  string // the command
	said string // what status says then
}

// drifts takes away each thing that podwire made: status says so, setup makes it again,
// and the guest goes on as before.
func (w *world) drifts() error {
	for _, l := range w.binding.losses {
		if err := w.drift(l); err != nil {
			return fmt.Errorf("after %q: %w", l.how, err)
		}
	}
	return nil
}

func (w *world) drift(l loss) error {
	tap := strings.Contains(l.how, "del "+w.to.Tap)
	if tap {
		w.guest.cable.unplug()
	}
	if _, err := w.vm.Run(w.ctx, "sh", "-c", l.how); err != nil {
		return err
	}
	if st, err := w.status(); err != nil || !strings.Contains(strings.Join(st.Drift, "\n"), l.said) {
		return fmt.Errorf("status is to name %q as drift: %q, %w", l.said, st.Drift, err)
	}
	if _, err := w.wire("setup"); err != nil {
		return err
	}
	if tap {
		// The server goes with its tap; who supervises it starts it again.
		if err := errors.Join(w.guest.cable.plug(w.vm.Space, w.to.Tap), w.restart()); err != nil {
			return err
		}
	}
	return errors.Join(w.well(), w.reachesAll(w.guest.Space, far4), w.reachedByAll(far6))
}

// serverDies kills the server under connections, which go on, and starts it again: the
// guest renews its leases.
func (w *world) serverDies() error {
	out, in, err := w.established()
	if err != nil {
		return err
	}
	defer out.Close()
	defer in.Close()
	if err := w.kill(); err != nil {
		return err
	}
	if err := errors.Join(out.goesOn(callTime), in.goesOn(callTime), w.reachesAll(w.guest.Space, far6)); err != nil {
		return fmt.Errorf("without the server: %w", err)
	}
	if err := w.restart(); err != nil {
		return err
	}
	return errors.Join(w.guest.renew(w), out.goesOn(callTime), in.goesOn(callTime), w.well())
}

// kill ends podwire's server as a crash does.
func (w *world) kill() error {
	st, err := w.status()
	if err != nil || st.PID == 0 {
		return fmt.Errorf("no server to kill: %+v, %w", st, err)
	}
	if _, err := w.vm.Run(w.ctx, "kill", "-9", strconv.Itoa(st.PID)); err != nil {
		return err
	}
	return w.eventually(callTime, func() error {
		if st, err := w.status(); err != nil || st.Serving {
			return fmt.Errorf("it still serves: %w", err)
		}
		return nil
	})
}

// restart starts podwire's server, unless it runs.
func (w *world) restart() error {
	if st, err := w.status(); err == nil && st.Serving {
		return nil
	}
	program, err := w.dir.Program("podwire")
	if err != nil {
		return err
	}
	const ready = "/run/served"
	if _, err := w.vm.Run(w.ctx, "rm", "-f", ready); err != nil {
		return err
	}
	var log pod.Log
	cmd := exec.CommandContext(w.ctx, program, "serve", "--ready-file", ready)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := w.vm.Start(cmd); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // it ends with its pod
	return w.eventually(callTime, func() error {
		_, err := w.vm.ReadFile(ready)
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, log.String())
		}
		return err
	})
}

// end takes the setup back.
func (w *world) end() error {
	w.guest.close()
	w.guest = nil
	_, err := w.podwire("teardown")
	return errors.Join(err, w.unchanged(w.before), w.podIsBack())
}

// podIsBack: what the pod itself reaches, and by whom it is reached, is as ever.
func (w *world) podIsBack() error {
	return errors.Join(w.sidecarDials(), w.sidecarListens())
}
