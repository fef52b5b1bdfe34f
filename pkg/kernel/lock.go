//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is how often a lock that somebody else holds is tried again: a wait
// in flock(2) itself could not be given up when the context ends.
const lockPoll = 10 * time.Millisecond

// Lock takes an exclusive lock on a directory and waits for it until ctx ends.
// It is a flock(2) on the directory itself: it leaves no file behind and ends
// with the process, however that ends. The directory must exist.
func Lock(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return sync.OnceFunc(func() { f.Close() }), nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("locking %q: %w", dir, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("locking %q: held by another process: %w", dir, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
