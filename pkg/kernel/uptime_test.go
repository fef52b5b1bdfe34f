//go:build linux

package kernel

import (
	"testing"
	"time"
)

// TestBootOffsetIsTheOneOfBoottime: the kernel writes names, and has written numbers.
func TestBootOffsetIsTheOneOfBoottime(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"":      0,
		"words": 0,
		"monotonic           7         0\nboottime            0         0\n": 0,
		"monotonic           7         0\nboottime         5000  20000000\n": 5000*time.Second + 20*time.Millisecond,
		"monotonic           7         0\nboottime        -5000 900000000\n": -4999*time.Second - 100*time.Millisecond,
		"1 7 0\n7 86400 0\n":                   24 * time.Hour,
		"boottime 99999999999999999999999 0\n": 0,
	} {
		if got := bootOffset(text); got != want {
			t.Errorf("bootOffset(%q) = %s, want %s", text, got, want)
		}
	}
}
