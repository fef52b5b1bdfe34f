package cli

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// TestAFileThatMayNotBeReadAnyMoreIsAsItWas, which is said once each time.
func TestAFileThatMayNotBeReadAnyMoreIsAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("as it was"), 0o600); err != nil {
		t.Fatal(err)
	}
	var files, others lastRead
	said := 0
	stale := func(error) { said++ }
	if text, err := files.read(path, 100, stale); err != nil || string(text) != "as it was" {
		t.Fatalf("read %q, %v", text, err)
	}
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	// Another user for files, who has no capabilities for them: of this thread alone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Geteuid() == 0 {
		if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Setfsuid(0) }()
		if err := syscall.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if text, err := files.read(path, 100, stale); err != nil || string(text) != "as it was" {
			t.Errorf("read %q, %v", text, err)
		}
	}
	if _, err := others.read(path, 100, stale); !os.IsPermission(err) {
		t.Errorf("who has never read it: %v", err)
	}
	if said != 1 {
		t.Errorf("said %d times", said)
	}
}
