//go:build linux

package kernel

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestWhatTakesAPrivilegeIsToldBeforehand: what root may do by its own right, and what
// by a capability, all of which it has afterwards as before.
func TestWhatTakesAPrivilegeIsToldBeforehand(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has a right to others' files")
	}
	const other = 1000
	root := t.TempDir()
	dirs := map[string]string{"own": "", "theirs": ""}
	for name := range dirs {
		dir := filepath.Join(root, name)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		dirs[name] = dir
	}
	theirs := filepath.Join(dirs["theirs"], "file")
	if err := errors.Join(os.Chown(dirs["theirs"], other, other), os.Chown(theirs, other, other)); err != nil {
		t.Fatal(err)
	}
	has, err := capabilities()
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct{ got, want error }{
		"read its own":             {MayReadConfined(filepath.Join(dirs["own"], "file")), nil},
		"read another's":           {MayReadConfined(theirs), fs.ErrPermission},
		"read what is not there":   {MayReadConfined(filepath.Join(root, "none")), fs.ErrNotExist},
		"make one of its own":      {MayMakeConfined(dirs["own"]), nil},
		"make one with another":    {MayMakeConfined(dirs["theirs"]), fs.ErrPermission},
		"make one where no dir is": {MayMakeConfined(filepath.Join(root, "none")), fs.ErrNotExist},
	} {
		if !errors.Is(test.got, test.want) || (test.got == nil) != (test.want == nil) {
			t.Errorf("%s: %v, want %v", what, test.got, test.want)
		}
	}
	if now, err := capabilities(); err != nil || now != has {
		t.Errorf("capabilities are %v (%v), and were %v", now, err, has)
	}
}
