package cli

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/podwire/podwire/internal/podscript"
)

// TestCNIScripts runs the scripts about the CNI plugin: in those there is a node's
// directory, short enough for a socket's path, and a kubelet's.
func TestCNIScripts(t *testing.T) {
	params := podscript.Params(t)
	params.Dir = "testdata/cni"
	setup := params.Setup
	params.Setup = func(env *testscript.Env) error {
		if err := setup(env); err != nil {
			return err
		}
		dir, err := os.MkdirTemp("/tmp", "pw")
		if err != nil {
			return err
		}
		env.Defer(func() { _ = os.RemoveAll(dir) })
		env.Setenv("NODE", dir)
		env.Setenv("CNI_NETNS", env.Getenv("PODWIRE_NETNS"))
		env.Setenv("CNI_CONTAINERID", "c0ffee")
		env.Setenv("CNI_IFNAME", "eth0")
		env.Setenv("CNI_PATH", "/usr/lib/cni")
		env.Setenv("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=vm-0;K8S_POD_UID=0b0e")
		env.Setenv("VOLUME", env.WorkDir+"/kubelet/pods/0b0e/volumes/kubernetes.io~empty-dir/podwire")
		return nil
	}
	params.Cmds["fill"], params.Cmds["await-file"], params.Cmds["await-no"] = fill, awaitFile(true), awaitFile(false)
	testscript.Run(t, params)
}

// fill replaces the variables in files.
func fill(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := ts.ReadFile(name)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(os.Expand(text, ts.Getenv)), 0o644))
	}
}

// awaitFile waits until files exist, or exist no more.
func awaitFile(there bool) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		for _, name := range args {
			for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				if _, err := os.Stat(ts.MkAbs(name)); (err == nil) == there {
					break
				}
				if time.Now().After(until) {
					ts.Fatalf("waited in vain for %s", name)
				}
			}
		}
	}
}

func TestIsCNI(t *testing.T) {
	t.Setenv("CNI_COMMAND", "ADD")
	if !IsCNI([]string{"/opt/cni/bin/podwire"}) || IsCNI([]string{"podwire", "status"}) {
		t.Error("it is the plugin where it is called without arguments, and only there")
	}
	t.Setenv("CNI_COMMAND", "")
	if IsCNI([]string{"podwire"}) {
		t.Error("without CNI_COMMAND it is no plugin")
	}
}

// TestFilesAreReplacedWhole also where an earlier try was cut off.
func TestFilesAreReplacedWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "10-net.conflist")
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+newSuffix), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"one", "two"} {
		if err := replaceFile(path, []byte(content), 0o640, nil); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil || string(text) != content {
			t.Errorf("%q, %v", text, err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	info, serr := os.Stat(path)
	if err != nil || serr != nil || len(entries) != 1 || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v, %v, %v", entries, info.Mode(), err, serr)
	}
}
