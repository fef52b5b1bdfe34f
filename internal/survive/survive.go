// Package survive keeps a panic in one goroutine from ending the program: what
// serves a guest goes on with the next message, whatever the last one did. The
// goroutines of a server are started here and nowhere else, which a test in
// internal/house holds.
package survive

import (
	"context"
	"runtime/debug"
	"sync"
	"time"
)

// Report is told what panicked, and where.
type Report func(p any, stack []byte)

// How long to wait before what panicked is run again: a panic that comes back at
// once must not take a core.
const (
	pauseFirst = 10 * time.Millisecond
	pauseMost  = time.Second
)

// Panic ends a panic and reports it. It is to be deferred itself: a function that
// is called by a deferred one could not.
func Panic(report Report) {
	if p := recover(); p != nil {
		defer func() { _ = recover() }() // of the report's own
		report(p, debug.Stack())
	}
}

// Go runs f in a goroutine that all waits for.
func Go(all *sync.WaitGroup, report Report, f func()) {
	all.Go(func() {
		defer Panic(report)
		f()
	})
}

// AfterFunc is context.AfterFunc.
func AfterFunc(ctx context.Context, report Report, f func()) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		defer Panic(report)
		f()
	})
}

// Again runs f, and again each time that it has panicked, until it returns or ctx
// ends.
func Again(ctx context.Context, report Report, f func()) {
	for pause := pauseFirst; panics(report, f); pause = min(2*pause, pauseMost) {
		if !Wait(ctx, pause) {
			return
		}
	}
}

func panics(report Report, f func()) (panicked bool) {
	panicked = true
	defer Panic(report)
	f()
	return false
}

// Wait waits, and reports whether ctx is still there.
func Wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
