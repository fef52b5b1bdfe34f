//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
)

// crowd is more addresses than the kernel tells of at once: only what it tells in parts
// can change in between.
const crowd = 1500

// newCrowd gives a namespace a link with many addresses.
func newCrowd(t *testing.T, ns *netnstest.NS) {
	t.Helper()
	lines := []string{"link add crowd0 type bridge", "link set crowd0 addrgenmode none", "link set crowd0 up"}
	for n := range crowd {
		lines = append(lines, fmt.Sprintf("addr add 10.99.%d.%d/32 dev crowd0", n/250, n%250+1))
	}
	ns.IP(t, lines...)
}

// churn adds and deletes an address of the crowd, again and again, until stop.
func (p *pod) churn(t *testing.T, every time.Duration) (stop func()) {
	t.Helper()
	k, ctx := open(t, p.Path), context.Background()
	a := netstate.Addr{
		Link: p.Index(t, "crowd0"), Prefix: netip.MustParsePrefix("10.98.0.1/32"),
		ValidLft: netstate.Forever, PreferredLft: netstate.Forever,
	}
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if err := errors.Join(k.addAddr(ctx, a), k.deleteAddr(ctx, a)); err != nil {
				t.Errorf("churning: %v", err)
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		close(done)
		running.Wait()
	})
}

// interruptions counts the dumps that the kernel says are interrupted.
func (p *pod) interruptions() *atomic.Int32 {
	var n atomic.Int32
	real := p.k.route.execute
	p.k.route.execute = func(req *nl.NetlinkRequest) ([][]byte, error) {
		msgs, err := real(req)
		if errors.Is(err, nl.ErrDumpInterrupted) {
			n.Add(1)
		}
		return msgs, err
	}
	return &n
}

func TestTablesThatChangeWhileTheyAreRead(t *testing.T) {
	const enough = 20
	p := newPod(t, dual)
	newCrowd(t, p.NS)
	steps, before := plannedFor(t, p.settled(t), config.Bridge), p.settled(t)
	interrupted := p.interruptions()
	stop := p.churn(t, time.Millisecond)
	defer stop()
	runs := 0
	for deadline := time.Now().Add(20 * time.Second); interrupted.Load() < enough && time.Now().Before(deadline); runs++ {
		if err := apply.Run(t.Context(), p.k, steps, quiet); err != nil {
			t.Fatalf("setup: %v", err)
		}
		if err := apply.Undo(t.Context(), p.k, steps, quiet); err != nil {
			t.Fatalf("teardown: %v", err)
		}
	}
	stop()
	compare(t, before, p.settled(t))
	t.Logf("%d dumps were interrupted by the kernel in %d setups and teardowns", interrupted.Load(), runs)
	if interrupted.Load() < enough {
		t.Errorf("the kernel interrupted %d dumps, which is not enough to tell", interrupted.Load())
	}
}

// What is left of an answer that was lost must not be in the way of the next request: of
// a dump that is not read to its end the kernel answers EBUSY to the next.
func TestAnswerThatWasLostIsNotInTheWay(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	newCrowd(t, p.NS)
	begin := func() {
		req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
		req.AddRawData(make([]byte, unix.SizeofIfAddrmsg))
		if err := p.k.route.socket.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	if _, err := p.k.addrs(t.Context()); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a second dump at a time: %v, not EBUSY", err)
	}
	p.k.route.drain()
	p.k.route.loseAnswers(t, true)
	if _, err := p.k.addrs(t.Context()); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("the answer is lost, and the error is %v", err)
	}
	p.k.route.loseAnswers(t, false)
	addrs, err := p.k.addrs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, a := range addrs {
		if strings.HasPrefix(a.Prefix.String(), "10.99.") {
			n++
		}
	}
	if n != crowd {
		t.Errorf("read %d addresses, not %d", n, crowd)
	}
}

// loseAnswers has the socket give up before an answer is read.
func (c *conn) loseAnswers(t *testing.T, lose bool) {
	t.Helper()
	wait := unix.NsecToTimeval(replyTimeout.Nanoseconds())
	if lose {
		wait.Sec = -1
	}
	if err := c.socket.SetReceiveTimeout(&wait); err != nil {
		t.Fatal(err)
	}
}
