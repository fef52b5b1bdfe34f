package bindings

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/guest"
)

// emulating measures traffic of real guests, which run all at a time, one of them at
// work.
func emulating(m *meter, t testing.TB, worlds []*world) error {
	machines := map[string]*guest.Machine{}
	for _, w := range worlds {
		vm, err := w.boot(t)
		if err != nil {
			return fmt.Errorf("%s: %w", w.binding.name, err)
		}
		defer vm.Kill()
		machines[w.binding.name] = vm
	}
	const size = 8 << 20
	out, in, echo := m.row("TCP from a guest of QEMU's (TCG)", "Mbit/s"), m.row("TCP to a guest of QEMU's (TCG)", "Mbit/s"), m.row("ping from a guest of QEMU's (TCG)", "µs")
	return inTurn(worlds, machineRounds, func(w *world) error {
		vm := machines[w.binding.name]
		sent, err := w.timed(vm, fmt.Sprintf("(echo drop %d; head -c %d /dev/zero) | nc %s %d", size, size, far4, port))
		if err != nil {
			return err
		}
		received, err := w.timed(vm, fmt.Sprintf("echo give %d | nc %s %d | wc -c", size, far4, port))
		if err != nil {
			return err
		}
		said, _, err := vm.Run(w.ctx, fmt.Sprintf("ping -c 40 -i 0.05 %s", far4))
		if err != nil {
			return err
		}
		rtt, err := median(said)
		if err != nil {
			return err
		}
		out.take(w.binding, size*8/sent.Seconds()/1e6)
		in.take(w.binding, size*8/received.Seconds()/1e6)
		echo.take(w.binding, rtt)
		return nil
	})
}

// timed runs a command in a guest, which has to say something.
func (w *world) timed(m *guest.Machine, command string) (time.Duration, error) {
	start := time.Now()
	said, status, err := m.Run(w.ctx, command)
	if err == nil && (status != 0 || strings.TrimSpace(said) == "") {
		err = fmt.Errorf("guest# %s: status %d, %q", command, status, said)
	}
	return time.Since(start), err
}

var pingTime = regexp.MustCompile(`time=([0-9.]+) ms`)

// median is that of the times that ping prints, in microseconds.
func median(said string) (float64, error) {
	var times []float64
	for _, match := range pingTime.FindAllStringSubmatch(said, -1) {
		t, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			return 0, err
		}
		times = append(times, t*1000)
	}
	if len(times) == 0 {
		return 0, fmt.Errorf("ping says %q", said)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}
