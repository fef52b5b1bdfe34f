package matrix

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// cellTime bounds one cell, and guestTime one with a real guest, on a machine that has
// other things to do.
const (
	cellTime  = 60 * time.Second
	guestTime = 150 * time.Second
)

// TestMatrix runs all cells, and prints the table.
func TestMatrix(t *testing.T) {
	var r report
	t.Run("cells", func(t *testing.T) {
		for _, l := range layouts {
			for _, c := range cells(l) {
				if reason := c.absent(); reason != "" {
					r.add(c, result{Result: absent, Reason: reason})
					continue
				}
				t.Run(l.name+"/"+string(c.family)+"/"+string(c.binding), func(t *testing.T) {
					t.Parallel()
					res := run(t, c)
					if r.add(c, res); res.Result == failed {
						t.Error(res.Reason)
					}
				})
			}
		}
	})
	if err := r.write(); err != nil {
		t.Error(err)
	}
	fmt.Println(r.table())
}

// run runs one cell.
func run(t *testing.T, c cell) result {
	t.Helper()
	res := result{Result: passed}
	w := newWorld(t, c)
	if reason := w.lacks(); reason != "" {
		res.Result, res.Reason = absent, reason
		return res
	}
	err := w.build()
	switch {
	case err != nil:
		err = fmt.Errorf("building the layout: %w", err)
	case c.refused():
		res.Result = refused
		res.Reason, err = w.wantRefusal()
	default:
		res.Client = w.client().name
		if err = w.joins(); err == nil && c.guest() {
			res.Guest = true
			err = w.boots(t)
		}
	}
	if err != nil {
		res.Result, res.Reason = failed, err.Error()
	}
	return res
}

// joins has a client in a namespace take the pod's place, and leave it again.
func (w *world) joins() (err error) {
	if err := w.reaches(w.vm.Space, w.ifname()); err != nil {
		return fmt.Errorf("the pod itself, before: %w", err)
	}
	before, err := w.vm.Settled(w.ctx)
	if err != nil {
		return err
	}
	to, err := w.prestart()
	if err != nil {
		return err
	}
	if err := w.guest(to); err != nil {
		return errors.Join(fmt.Errorf("the guest: %w", err), w.explain())
	}
	if err := w.beside(); err != nil {
		return fmt.Errorf("the pod itself, beside its guest: %w", err)
	}
	if _, _, err := w.podwire("teardown"); err != nil {
		return err
	}
	if err := w.unchanged(before); err != nil {
		return err
	}
	if err := w.reaches(w.vm.Space, w.ifname()); err != nil {
		return fmt.Errorf("the pod itself, afterwards: %w", err)
	}
	return nil
}

// beside checks what the pod itself has of its network while there is a guest.
func (w *world) beside() error {
	switch {
	case w.binding.Behind(): // it goes on to use its addresses
		return w.calls(w.vm.Space, w.ifname())
	case w.binding.Keeps():
		return w.deaf()
	default:
		return w.bare()
	}
}

// deaf checks that the pod has its addresses still, and hears nothing.
func (w *world) deaf() error {
	out, err := w.vm.Run(w.ctx, "ip", "-oneline", "address", "show", "dev", w.ifname())
	if err != nil {
		return err
	}
	for _, own := range w.vm.Addrs {
		if !strings.Contains(out, " "+own.String()+" ") {
			return fmt.Errorf("it has no address %s:\n%s", own, out)
		}
	}
	busybox, err := w.dir.Busybox()
	if err != nil {
		return err
	}
	if _, err := w.vm.Run(w.ctx, busybox, "ping", "-q", "-c", "1", "-W", "1", w.other.Addrs[0].Addr().String()); err == nil {
		return errors.New("it hears answers, which are the guest's")
	}
	return nil
}

// bare checks that the pod itself has no address while a guest has them, not even one
// that its kernel made up: neither on the port, nor on the bridge, nor on the tap.
func (w *world) bare() error {
	out, err := w.vm.Run(w.ctx, "ip", "-oneline", "address", "show")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) < 2 || fields[1] != "lo" {
			return fmt.Errorf("it has an address: %s", line)
		}
	}
	return nil
}

// unchanged compares the pod's network with what it was.
func (w *world) unchanged(before []string) error {
	after, err := w.vm.Settled(w.ctx)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(before, after); diff != "" {
		return fmt.Errorf("the pod's network is not as it was (-before +after):\n%s", diff)
	}
	return nil
}

// wantRefusal: podwire says why it cannot, and what to use instead.
func (w *world) wantRefusal() (said string, err error) {
	before, err := w.vm.Settled(w.ctx)
	if err != nil {
		return "", err
	}
	_, said, err = w.podwire("prestart")
	if err == nil {
		return "", errors.New("podwire prestart did not refuse")
	}
	said = strings.TrimSpace(said)
	for _, word := range []string{w.layout.refused, "veth", "--binding"} {
		if !strings.Contains(said, word) || strings.Contains(said, "\n") {
			return said, fmt.Errorf("podwire prestart is to say %q, in one line: %s", word, said)
		}
	}
	return said, w.unchanged(before)
}

// explain says what podwire knows, for a cell that failed.
func (w *world) explain() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), 5*time.Second)
	defer cancel()
	w.ctx = ctx
	out, said, _ := w.podwire("status")
	return fmt.Errorf("podwire's status: %s%s", out, said)
}
