package killed

import (
	"testing"

	"github.com/podwire/podwire/tests/fault"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// every is at which of the points something is killed in the short form.
func every(b pod.Binding) int {
	if b == pod.Bridge {
		return 1
	}
	return 6
}

func killSetup(t *testing.T, s *stage, n int) *fault.Call {
	t.Helper()
	return s.kill(t, n, "setup")
}

func killTeardown(t *testing.T, s *stage, n int) *fault.Call {
	t.Helper()
	s.Podwire(t, "setup")
	return s.kill(t, n, "teardown")
}

func setUp(t *testing.T, s *stage) {
	t.Helper()
	s.Podwire(t, "setup")
	s.wantWired(t)
	tearDown(t, s)
}

func tearDown(t *testing.T, s *stage) {
	t.Helper()
	s.Podwire(t, "teardown")
	s.wantAsFound(t)
}

func TestSetup(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		inParts(t, b, every(b), "setup, then setup", killSetup, setUp)
	})
}

func TestTeardown(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		inParts(t, b, every(b), "teardown, then teardown", killTeardown, tearDown)
	})
}

// TestSetupOfAServedPod has a setup killed that changes what a guest is told whose server
// runs. After the same setup again that server tells it, also where the state said so already.
func TestSetupOfAServedPod(t *testing.T) {
	t.Parallel()
	given := []string{"setup", "--hostname", "renamed"}
	at := func(t *testing.T, s *stage, n int) *fault.Call {
		t.Helper()
		s.Podwire(t, "prestart")
		reached := s.kill(t, n, given...)
		if reached == nil {
			tearDown(t, s)
		}
		return reached
	}
	inParts(t, pod.Bridge, 1, "setup of a served pod, then setup", at, func(t *testing.T, s *stage) {
		s.Podwire(t, given...)
		if got := s.exchange(t)["hostname"]; got != "renamed" {
			t.Errorf("the guest was told the host name %q", got)
		}
		tearDown(t, s)
	})
}

// TestTheOtherWay has a command killed and then the other one run, as where a pod is
// deleted while it starts, or a VM starts again.
func TestTheOtherWay(t *testing.T) {
	t.Parallel()
	const some = 15 // in the short form
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		t.Run("teardown", func(t *testing.T) {
			t.Parallel()
			inParts(t, b, some, "setup, then teardown", killSetup, tearDown)
		})
		t.Run("setup", func(t *testing.T) {
			t.Parallel()
			inParts(t, b, some, "teardown, then setup", killTeardown, setUp)
		})
	})
}
