package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheLogOfADetachedServerStartsAnew when it is full: nobody else looks after it.
func TestTheLogOfADetachedServerStartsAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "serve.log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if logOf(f) != f {
		t.Error("a log that somebody else gave is bounded")
	}
	t.Setenv(lockedEnv, "1")
	log, line := logOf(f), []byte(strings.Repeat("x", 1<<16))
	for range 3 * maxLog / len(line) {
		if n, err := log.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
		if info, err := f.Stat(); err != nil || info.Size() > int64(maxLog+len(line)) {
			t.Fatalf("%d octets, %v", info.Size(), err)
		}
	}
}
