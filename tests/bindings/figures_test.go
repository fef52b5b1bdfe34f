package bindings

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/pod"
)

// How often each figure is taken. One binding's turn is followed by the next one's, so
// that what else the machine does falls on all of them.
const (
	wireRounds    = 15
	liveRounds    = 9
	talkRounds    = 7
	machineRounds = 5
)

// figuresTime bounds a whole run.
const figuresTime = 15 * time.Minute

// figure is a row of what was measured: the median of each binding's rounds.
type figure struct {
	Name   string             `json:"name"`
	Unit   string             `json:"unit"`
	Rounds int                `json:"rounds"`
	Median map[string]float64 `json:"median"`
}

// figures is a run, and where it was.
type figures struct {
	CPUs   int      `json:"cpus"`
	Kernel string   `json:"kernel"`
	Rows   []figure `json:"rows"`
}

// samples are the rounds of a row, by binding.
type samples struct {
	name, unit string
	taken      map[string][]float64
}

func (s *samples) take(b binding, value float64) {
	s.taken[b.name] = append(s.taken[b.name], value)
}

func (s *samples) figure() figure {
	f := figure{Name: s.name, Unit: s.unit, Median: map[string]float64{}}
	for name, taken := range s.taken {
		slices.Sort(taken)
		f.Median[name], f.Rounds = taken[len(taken)/2], len(taken)
	}
	return f
}

// meter collects rows in the order in which they are first asked for.
type meter struct{ rows []*samples }

func (m *meter) row(name, unit string) *samples {
	for _, s := range m.rows {
		if s.name == name {
			return s
		}
	}
	s := &samples{name: name, unit: unit, taken: map[string][]float64{}}
	m.rows = append(m.rows, s)
	return s
}

// BenchmarkFigures measures the bindings, once, whatever the benchmark's count is:
// go test -bench Figures -benchtime 1x.
func BenchmarkFigures(b *testing.B) {
	var worlds []*world
	for _, each := range bindings {
		worlds = append(worlds, newWorld(b, each, figuresTime))
	}
	var m meter
	for _, part := range []func(*meter, testing.TB, []*world) error{wiring, living, talking, emulating} {
		start := time.Now()
		if err := part(&m, b, worlds); err != nil {
			b.Fatal(err)
		}
		b.Logf("measured in %s", time.Since(start).Round(time.Second))
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	run := figures{CPUs: runtime.NumCPU(), Kernel: regexp.MustCompile(`^\d+\.\d+`).FindString(string(release))}
	for _, s := range m.rows {
		f := s.figure()
		run.Rows = append(run.Rows, f)
		fmt.Printf("%-44s %-12s", f.Name, f.Unit)
		for _, each := range bindings {
			fmt.Printf(" %12.2f", f.Median[each.name])
		}
		fmt.Println()
	}
	if err := leave("figures.json", run); err != nil {
		b.Fatal(err)
	}
}

// inTurn does something for each world, again and again.
func inTurn(worlds []*world, rounds int, do func(*world) error) error {
	for range rounds {
		for _, w := range worlds {
			if err := do(w); err != nil {
				return fmt.Errorf("%s: %w", w.binding.name, err)
			}
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// wiring measures setup and teardown as processes, from exec to exit.
func wiring(m *meter, _ testing.TB, worlds []*world) error {
	setup, teardown := m.row("setup, from exec to exit", "ms"), m.row("teardown, from exec to exit", "ms")
	err := inTurn(worlds, wireRounds, func(w *world) error {
		start := time.Now()
		if _, err := w.wire("setup"); err != nil {
			return err
		}
		setup.take(w.binding, ms(time.Since(start)))
		start = time.Now()
		if _, err := w.podwire("teardown"); err != nil {
			return err
		}
		teardown.take(w.binding, ms(time.Since(start)))
		return nil
	})
	return err
}

// living measures how traffic gets over a setup.
func living(m *meter, _ testing.TB, worlds []*world) error {
	blind, lost := m.row("live traffic: pause during setup", "ms"), m.row("live traffic: packets lost of 5000/s", "packets")
	return inTurn(worlds, liveRounds, func(w *world) error {
		g, err := w.live(func(*talk) error { return nil })
		if err == nil {
			blind.take(w.binding, ms(g.blind))
			lost.take(w.binding, float64(g.lost))
		}
		return err
	})
}

// volume is how much is sent to measure how fast that is.
const volume = 256 << 20

// talking measures traffic of a guest that is a namespace at the tap, with offloads.
func talking(m *meter, _ testing.TB, worlds []*world) error {
	for _, w := range worlds {
		if err := w.begin(); err != nil {
			return fmt.Errorf("%s: %w", w.binding.name, err)
		}
	}
	out, in := m.row("TCP from the guest, offloads at the tap", "Gbit/s"), m.row("TCP to the guest, offloads at the tap", "Gbit/s")
	away, home := m.row("UDP from the guest, 64 octets", "packets/s"), m.row("UDP to the guest, 64 octets", "packets/s")
	echo := m.row("ping from the guest", "µs")
	err := inTurn(worlds, talkRounds, func(w *world) error {
		guest, far := w.guest.Space, w.far.Space
		toFar, toGuest := netip.AddrPortFrom(far4, port), netip.AddrPortFrom(w.own(far4), port)
		// First: what a flood leaves in queues would count.
		rtt, err := w.ping(guest, far4)
		if err != nil {
			return err
		}
		sent, err := w.speed(guest, toFar)
		if err != nil {
			return err
		}
		received, err := w.speed(far, toGuest)
		if err != nil {
			return err
		}
		awayRate, err := w.packets(guest, far, far4)
		if err != nil {
			return err
		}
		homeRate, err := w.packets(far, guest, w.own(far4))
		if err != nil {
			return err
		}
		out.take(w.binding, sent)
		in.take(w.binding, received)
		away.take(w.binding, awayRate)
		home.take(w.binding, homeRate)
		echo.take(w.binding, rtt)
		return nil
	})
	for _, w := range worlds {
		err = errors.Join(err, w.end())
	}
	return err
}

// speed sends a volume by TCP, and returns how fast that was, in Gbit/s.
func (w *world) speed(from *pod.Space, to netip.AddrPort) (float64, error) {
	t, err := w.dial(from, to, time.Minute)
	if err != nil {
		return 0, err
	}
	defer t.Close()
	start := time.Now()
	if _, err := fmt.Fprintf(t, "drop %d\n", volume); err != nil {
		return 0, err
	}
	for left := volume; left > 0; left -= len(block) {
		if _, err := t.Write(block[:min(left, len(block))]); err != nil {
			return 0, err
		}
	}
	answer, err := t.r.ReadString('\n')
	if err == nil && answer != "dropped\n" {
		err = fmt.Errorf("the other end says %q", answer)
	}
	return volume * 8 / time.Since(start).Seconds() / 1e9, err
}

// packets sends datagrams for a second as fast as it can, and returns how many of them
// arrive.
func (w *world) packets(from, to *pod.Space, at netip.Addr) (float64, error) {
	var in net.PacketConn
	err := to.Do(func() (err error) {
		in, err = net.ListenPacket("udp4", ":"+strconv.Itoa(livePort))
		return err
	})
	if err != nil {
		return 0, err
	}
	defer in.Close()
	var n atomic.Int64
	go func() {
		for octets := make([]byte, 128); ; n.Add(1) {
			if _, _, err := in.ReadFrom(octets); err != nil {
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(w.ctx, time.Second)
	defer cancel()
	out, err := from.Dial(ctx, "udp", netip.AddrPortFrom(at, livePort).String())
	if err != nil {
		return 0, err
	}
	defer out.Close()
	start := time.Now()
	for ctx.Err() == nil {
		for range 64 {
			_, _ = out.Write(block[:64])
		}
	}
	return float64(n.Load()) / time.Since(start).Seconds(), nil
}

// ping returns the median of some echo requests' times, in microseconds.
func (w *world) ping(from *pod.Space, to netip.Addr) (float64, error) {
	conn, err := from.Dial(w.ctx, "ip4:icmp", to.String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	var times []float64
	var lost error
	for seq := range uint16(200) {
		request := []byte{8, 0, 0, 0, 0x70, 0x77, 0, 0} // echo request (RFC 792), and who asks
		binary.BigEndian.PutUint16(request[6:], seq)
		binary.BigEndian.PutUint16(request[2:], checksum(request))
		start := time.Now()
		if _, err := conn.Write(request); err != nil {
			return 0, err
		}
		_ = conn.SetReadDeadline(start.Add(time.Second))
		for answer := make([]byte, 128); err == nil; {
			var n int
			n, _, err = conn.(*net.IPConn).ReadFrom(answer) // without the header, unlike Read
			if err == nil && n >= 8 && answer[0] == 0 && binary.BigEndian.Uint16(answer[6:]) == seq {
				times = append(times, float64(time.Since(start).Nanoseconds())/1000)
				break
			}
		}
		if lost == nil {
			lost = err // one may be; the median is of the others
		} else if err != nil {
			return 0, errors.Join(lost, err)
		}
		err = nil
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	return ^uint16(sum + sum>>16)
}
