package dnsforward

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/podwire/podwire/internal/survive"
)

var (
	errNoUpstream = errors.New("the pod has no nameserver")
	errSilent     = errors.New("no answer")
	errNotAnswer  = errors.New("what came back is no answer to the question")
	errTruncated  = errors.New("the answer is too long for UDP")
)

// exchange asks one upstream. It returns its answer, with the id of the client's
// question, and takes as long as ctx lets it.
type exchange func(ctx context.Context, upstream netip.AddrPort, q question) ([]byte, error)

// asking is one question on its way. The upstreams are asked in their order, the
// next one when one fails, or has been silent for the relay's patience; a silent
// one is still listened to, since its answer may be late and is as good.
type asking struct {
	upstream []netip.AddrPort
	asked    []bool
	failed   []bool
	at       int // whose turn it is
	pending  int
	outcomes chan outcome
	unusable []byte // an answer for when there is no better one
	errs     []error
}

type outcome struct {
	from   int
	answer []byte
	err    error
}

// ask returns the first usable answer, else one that says that an upstream is not
// willing, else nil and what went wrong.
func (r *Relay) ask(ctx context.Context, q question, try exchange, repeat bool) ([]byte, error) {
	upstream := *r.upstream.Load()
	a := asking{
		upstream: upstream, asked: make([]bool, len(upstream)), failed: make([]bool, len(upstream)),
		outcomes: make(chan outcome),
	}
	if len(upstream) == 0 {
		return nil, errNoUpstream
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithTimeout(ctx, r.giveUp)
	defer cancel()

	next := func(again bool) {
		from, ok := a.next(again)
		if !ok {
			return
		}
		a.pending++
		survive.Go(&running, r.Panicked(q.message), func() {
			o := outcome{from: from, err: errSilent}
			defer func() { a.report(ctx, o) }()
			o.answer, o.err = try(ctx, upstream[from], q)
		})
	}
	wait := min(r.patience, r.giveUp/time.Duration(len(upstream))) // each gets its turn
	patience := time.NewTicker(wait)
	defer patience.Stop()
	for next(false); a.pending > 0; {
		select {
		case <-ctx.Done():
			return a.end()
		case <-patience.C:
			next(repeat)
		case o := <-a.outcomes:
			if a.heard(o) {
				return o.answer, nil
			}
			patience.Reset(wait)
			next(false)
		}
	}
	return a.end()
}

// next returns whom to ask now: the next in order that was not asked yet or, again,
// has not failed.
func (a *asking) next(again bool) (int, bool) {
	for range a.upstream {
		i := a.at
		a.at = (a.at + 1) % len(a.upstream)
		if !a.asked[i] || again && !a.failed[i] {
			a.asked[i] = true
			return i, true
		}
	}
	return 0, false
}

func (a *asking) report(ctx context.Context, o outcome) {
	select {
	case a.outcomes <- o:
	case <-ctx.Done():
	}
}

// heard notes an outcome, and reports whether it is the answer.
func (a *asking) heard(o outcome) bool {
	a.pending--
	if o.err == nil && !notWilling(rcodeOf(o.answer)) {
		return true
	}
	a.failed[o.from] = true
	if o.err != nil {
		a.errs = append(a.errs, fmt.Errorf("asking %s: %w", a.upstream[o.from], o.err))
	} else if a.unusable == nil {
		a.unusable = o.answer
	}
	return false
}

// end is the result where no answer is usable.
func (a *asking) end() ([]byte, error) {
	for i, up := range a.upstream {
		if a.asked[i] && !a.failed[i] {
			a.errs = append(a.errs, fmt.Errorf("asking %s: %w", up, errSilent))
		}
	}
	return a.unusable, errors.Join(a.errs...)
}

// newID returns an id that nobody can guess (RFC 5452 §9.2).
func newID() uint16 {
	var b [2]byte
	_, _ = rand.Read(b[:]) // it never fails
	return binary.BigEndian.Uint16(b[:])
}
