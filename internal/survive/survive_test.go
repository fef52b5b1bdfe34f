package survive

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// heard collects what is reported.
type heard struct {
	mu  sync.Mutex
	all []any
	at  []string
}

func (h *heard) report(p any, stack []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all, h.at = append(h.all, p), append(h.at, string(stack))
}

func boom() { panic("boom") }

func TestAPanicIsReportedAndEndsItsGoroutineAlone(t *testing.T) {
	var (
		h   heard
		all sync.WaitGroup
	)
	Go(&all, h.report, boom)
	Go(&all, h.report, func() {})
	all.Wait()
	if len(h.all) != 1 || h.all[0] != "boom" || !strings.Contains(h.at[0], "survive.boom") {
		t.Errorf("reported %v\n%s", h.all, h.at)
	}
}

func TestAReportThatPanicsIsSurvivedToo(t *testing.T) {
	var all sync.WaitGroup
	Go(&all, func(any, []byte) { boom() }, boom)
	all.Wait()
}

func TestAfterFuncSurvives(t *testing.T) {
	var h heard
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	AfterFunc(ctx, func(p any, stack []byte) { h.report(p, stack); close(done) }, boom)
	cancel()
	<-done
	if len(h.all) != 1 {
		t.Errorf("reported %v", h.all)
	}
}

// TestWhatPanicsRunsAgainButDoesNotSpin: what panics at once, for ever, is run little
// more than once a second, and ends with its context.
func TestWhatPanicsRunsAgainButDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h heard
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		Again(ctx, h.report, boom)
		if n := len(h.all); n < 60 || n > 70 {
			t.Errorf("ran %d times in a minute", n)
		}
	})
}

func TestWhatReturnsDoesNotRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h heard
		runs := 0
		Again(t.Context(), h.report, func() {
			if runs++; runs < 3 {
				boom()
			}
		})
		if runs != 3 || len(h.all) != 2 {
			t.Errorf("%d runs, %d panics", runs, len(h.all))
		}
	})
}
