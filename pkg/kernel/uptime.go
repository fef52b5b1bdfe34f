//go:build linux

package kernel

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Uptime is the time since the machine's boot, suspended or not. Unlike the time of day it
// never jumps, and unlike CLOCK_BOOTTIME alone it is the same in every time namespace: what
// one podwire has written another must be able to count from (time_namespaces(7)).
func Uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("kernel: no CLOCK_BOOTTIME, which Linux has since 2.6.39: " + err.Error())
	}
	return time.Duration(ts.Nano()) - clockOffset()
}

// clockOffset is what this process's time namespace adds to CLOCK_BOOTTIME: nothing
// where there are no such namespaces. A running process of several threads cannot change
// its own, so that it is read once.
var clockOffset = sync.OnceValue(func() time.Duration {
	text, err := os.ReadFile("/proc/self/timens_offsets")
	if err != nil {
		return 0
	}
	return bootOffset(string(text))
})

// bootOffset reads timens_offsets: lines of a clock, seconds and nanoseconds, in which a
// clock may be a number in place of a name.
func bootOffset(text string) time.Duration {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) != 3 || words[0] != "boottime" && words[0] != strconv.Itoa(unix.CLOCK_BOOTTIME) {
			continue
		}
		seconds, err := strconv.ParseInt(words[1], 10, 64)
		nanos, nerr := strconv.ParseInt(words[2], 10, 64)
		if err == nil && nerr == nil {
			return time.Duration(seconds)*time.Second + time.Duration(nanos)
		}
	}
	return 0
}
