package failing

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// mountState mounts a filesystem of its own for the state.
func (w *testWorld) mountState(t *testing.T, options string) {
	t.Helper()
	w.inside(t, func() error {
		if err := os.MkdirAll(stateDir, 0o700); err != nil {
			return err
		}
		return unix.Mount("tmpfs", stateDir, "tmpfs", 0, "mode=700,"+options)
	})
}

// coverState makes the state read-only, until it is unmounted: a mount of its own over the
// one that is there, which a server's log would keep from being made so.
func (w *testWorld) coverState(t *testing.T) {
	t.Helper()
	w.inside(t, func() error {
		return errors.Join(
			unix.Mount(stateDir, stateDir, "", unix.MS_BIND, ""),
			unix.Mount("", stateDir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	})
}

func (w *testWorld) unmountState(t *testing.T) {
	t.Helper()
	w.inside(t, func() error { return unix.Unmount(stateDir, unix.MNT_DETACH) })
}

// takePage takes a page of the room for the state, of which there cannot be none.
func (w *testWorld) takePage(t *testing.T) {
	t.Helper()
	w.inside(t, func() error { return os.WriteFile(stateDir+"/filler", []byte("full"), 0o600) })
}

// fillState leaves no room for another page.
func (w *testWorld) fillState(t *testing.T) {
	t.Helper()
	w.inside(t, func() error {
		f, err := os.Create(stateDir + "/filler")
		if err != nil {
			return err
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, os.Getpagesize()))
		}
		if errors.Is(err, unix.ENOSPC) {
			return nil
		}
		return err
	})
}

// TestAFullStateDirectory runs setup and prestart with room for no page of state, for one,
// for two ... until there is enough for all of it.
func TestAFullStateDirectory(t *testing.T) {
	for _, command := range []string{"setup", "prestart"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pod.Bridge, 2*time.Minute)
			for pages := 0; ; pages++ {
				w.mountState(t, fmt.Sprintf("nr_blocks=%d", pages+1))
				w.takePage(t)
				s := w.try(t, command)
				after := fmt.Sprintf("%s with room for %d pages", command, pages)
				if s.code == done {
					w.wantPlanned(t, after)
					w.fillState(t)
					w.try(t, "teardown").want(t, done)
					w.wantFound(t, "teardown with no room at all")
					w.unmountState(t)
					world.Figure(t, topic, fmt.Sprintf("pages of state directory with which %s was tried", command), pages)
					return
				}
				s.want(t, failed, "no space left on device", "sizeLimit")
				w.wantFound(t, after)
				if left := w.servers(t); len(left) > 0 {
					t.Fatalf("%s left servers: %q", after, left)
				}
				w.try(t, "teardown").want(t, done)
				w.unmountState(t)
				if pages > 100 {
					t.Fatal("podwire wants more than 100 pages")
				}
			}
		})
	}
}

func TestAReadOnlyStateDirectory(t *testing.T) {
	const advice = "mount an emptyDir volume there"
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, b, time.Minute)
		w.mountState(t, "size=1m")

		w.coverState(t)
		for _, command := range []string{"setup", "prestart"} {
			w.try(t, command).want(t, failed, "read-only file system", advice)
			w.wantFound(t, command)
		}
		w.try(t, "teardown").want(t, done)

		w.unmountState(t)
		w.try(t, "setup").want(t, done)
		w.coverState(t)
		w.try(t, "setup").want(t, done)
		w.wantPlanned(t, "a second setup")
		w.try(t, "serve").want(t, failed, advice)
		w.try(t, "prestart").want(t, failed, advice)
		w.wantPlanned(t, "a prestart that could not write")
		w.try(t, "teardown").want(t, failed, "as it was found", advice)
		w.wantFound(t, "a teardown that could not write")

		// The state says that the pod is wired, which it is not: setup makes it so.
		w.try(t, "setup").want(t, done)
		w.wantPlanned(t, "a setup that could not write")
		w.unmountState(t)
		w.try(t, "teardown").want(t, done)
		w.wantFound(t, "teardown")

		w.try(t, "prestart").want(t, done)
		w.coverState(t)
		w.try(t, "teardown").want(t, failed, "as it was found", advice)
		w.wantFound(t, "a teardown of a served pod that could not write")
		w.unmountState(t)
		w.try(t, "teardown").want(t, done)
		w.wantNothingLeft(t, "teardown")
	})
}
