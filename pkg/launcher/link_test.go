package launcher

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestLibvirtIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.down = true
		l := start(t, w, w.options())
		l.after(10 * time.Second)
		l.runs()
		w.back()
		l.after(lastPause)
		w.ends("vm", endShutdown)
		l.wants("<nil>", "setup", started, "teardown")
	})
}

func TestTheWaitForLibvirtEnds(t *testing.T) {
	tests := map[string]struct {
		change func(*world)
		want   string
	}{
		"where none answers": {
			func(w *world) { w.down = true },
			`connecting to libvirt at "qemu:///system": it did not answer within 20s (no such socket)`,
		},
		"where one hangs": {
			func(w *world) { w.hangs = make(chan struct{}) },
			`connecting to libvirt at "qemu:///system": it did not answer within 20s (it does not answer)`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				tt.change(w)
				began := time.Now()
				l := start(t, w, w.options())
				l.wants(tt.want)
				if took := time.Since(began); took != 20*time.Second {
					t.Errorf("it took %s", took)
				}
				if w.hangs == nil {
					return
				}
				// A connection that comes after all is not left open.
				close(w.hangs)
				synctest.Wait()
				if len(w.conns) != 0 {
					t.Error("a late connection was left open")
				}
			})
		})
	}
}

func TestALibraryThatIsMissingIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		began := time.Now()
		err := run(t.Context(), w.options(), func(string) (hypervisor, error) { return nil, errNoLibrary }, w.startDaemon)
		if !errors.Is(err, errNoLibrary) || time.Since(began) != 0 {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

func TestALostLibvirtIsFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := start(t, w, w.options())
		for range 3 {
			w.crash()
			l.after(10 * time.Second)
			l.runs()
			w.back()
			l.after(10 * time.Second)
		}
		w.ends("vm", endShutdown)
		l.wants("<nil>", "setup", started, "teardown")
	})
}

func TestAnEndThatNobodySawIsNoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := start(t, w, w.options())
		w.crash()
		w.ends("vm", endShutdown)
		w.back()
		l.wants(`running domain "vm": it ended, and libvirt does not know how`, "setup", started, "teardown")
	})
}

func TestTheNetworkIsLeftWhereLibvirtStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := start(t, w, w.options())
		w.crash()
		l.wants(`losing libvirt under domain "vm": connecting to libvirt at "qemu:///system": it did not answer within 20s (no such socket)`+left,
			"setup", started)
	})
}

func TestALauncherThatIsToStopWaitsNoLongerThanTheGracePeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := w.options()
		o.GracePeriod = 3 * time.Second
		l := start(t, w, o)
		w.crash()
		l.after(time.Second)
		began := time.Now()
		l.terminate()
		l.wants(`losing libvirt under domain "vm": connecting to libvirt at "qemu:///system": the grace period is over (no such socket)`+left,
			"setup", started)
		if took := time.Since(began); took != o.GracePeriod {
			t.Errorf("it took %s", took)
		}
	})
}

func TestLibvirtIsLostWhileTheGuestShutsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.guest.presses = 3
		l := start(t, w, w.options())
		l.terminate()
		w.crash()
		w.back()
		l.wants("<nil>", "setup", started,
			"shutdown vm, first true", "shutdown vm, first false", "shutdown vm, first false", "teardown")
	})
}

func TestLibvirtIsLostOverTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.onStart = func() { w.cut() }
		l := start(t, w, w.options())
		l.after(time.Minute)
		l.runs()
		w.ends("vm", endShutdown)
		l.wants("<nil>", "setup", started, "teardown")
	})
}

func TestADaemonIsStartedWhereNoneAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.down = true
		o := w.options()
		o.StartLibvirtd = true
		l := start(t, w, o)
		l.after(time.Minute)
		w.daemons[0].dies()
		l.after(time.Minute)
		w.ends("vm", endShutdown)
		l.wants("<nil>", "start daemon", "setup", started, "start daemon", "teardown", "stop daemon")
	})
}

func TestADaemonIsNotStartedWhereOneAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := w.options()
		o.StartLibvirtd = true
		l := start(t, w, o)
		w.ends("vm", endShutdown)
		l.wants("<nil>", "setup", started, "teardown")
	})
}

func TestADaemonThatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.down, w.daemonErr = true, errNoDaemon
		o := w.options()
		o.StartLibvirtd = true
		l := start(t, w, o)
		l.wants("connecting to libvirt at \"qemu:///system\": "+errNoDaemon.Error()+"\nno such socket", "start daemon")
	})
}
