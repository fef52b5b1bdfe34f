//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/internal/netnstest"
)

// hears reports whether a watch hears something within the time that it may wait for quiet,
// and some.
func hears(t *testing.T, w *Watch, within time.Duration) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	err := w.Wait(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	return err == nil
}

// atRest waits until a watch hears nothing any more.
func atRest(t *testing.T, w *Watch) {
	t.Helper()
	until(t, "the namespace to come to rest", func() bool { return !hears(t, w, 3*watchQuiet) })
}

// TestWatchHearsEachChange of what a guest is told, and nothing where there is none.
func TestWatchHearsEachChange(t *testing.T) {
	t.Parallel()
	p := newPod(t, []string{"addr add 10.244.1.7/24 dev eth0", "link set eth0 up"})
	w, err := p.k.Watch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	atRest(t, w)
	for _, line := range []string{
		"addr add 10.244.1.8/24 dev eth0", "-6 addr add fd00::8/64 dev eth0 nodad", "addr del 10.244.1.8/24 dev eth0",
		"route add default via 10.244.1.1", "-6 route add default via fd00::1", "route del default",
		"link set eth0 mtu 1400", "link set eth0 down", "link set eth0 up",
	} {
		p.IP(t, line)
		if !hears(t, w, 10*time.Second) {
			t.Errorf("%q was not heard", line)
		}
		atRest(t, w)
	}
}

// TestWatchOutlivesAFlood: what the socket cannot hold is lost, and that it was is heard;
// and who never is quiet is heard all the same.
func TestWatchOutlivesAFlood(t *testing.T) {
	t.Parallel()
	p := newPod(t, []string{"addr add 10.244.1.7/24 dev eth0", "link set eth0 up"})
	w, err := p.k.Watch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	var lines []string
	for i := range 4000 {
		lines = append(lines, fmt.Sprintf("route add 192.0.%d.%d/32 dev eth0", i/250, i%250))
	}
	p.IP(t, lines...)
	if !hears(t, w, 10*time.Second) {
		t.Fatal("nothing was heard")
	}
	atRest(t, w)
	p.IP(t, "link set eth0 mtu 1400")
	if !hears(t, w, 10*time.Second) {
		t.Error("after the flood nothing is heard")
	}
}

// TestWatchIsCutOff by its context and by being closed.
func TestWatchIsCutOff(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	w, err := open(t, ns.Path).Watch()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	ended := make(chan error)
	go func() { ended <- w.Wait(t.Context()) }()
	w.Close()
	if err := <-ended; err == nil {
		t.Error("a closed watch waits well")
	}
}

// TestNetworkIsPartOfTheSnapshot: what is followed is read as what was wired by.
func TestNetworkIsPartOfTheSnapshot(t *testing.T) {
	t.Parallel()
	p := newPod(t, []string{
		"addr add 10.244.1.7/24 dev eth0", "addr add fd00::7/64 dev eth0", "link set eth0 up",
		"route add default via 10.244.1.1", "neigh add 10.244.1.1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
	})
	whole := p.settled(t)
	part, err := p.k.Network(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range [][2]any{{whole.Links, part.Links}, {whole.Addrs, part.Addrs}, {whole.Routes, part.Routes}, {whole.Neighbors, part.Neighbors}} {
		if diff := cmp.Diff(each[0], each[1], asValues); diff != "" {
			t.Errorf("(-snapshot +network):\n%s", diff)
		}
	}
}
