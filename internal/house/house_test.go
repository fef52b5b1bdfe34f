// Package house holds the rules of the whole tree, as tests: they say what a
// linter says too, but in plain `go test`, with the reason.
package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// file is one Go file of the tree.
type file struct {
	path string // from the root, with slashes
	test bool
	ast  *ast.File
}

func (f file) imports() []string {
	var out []string
	for _, i := range f.ast.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err == nil {
			out = append(out, path)
		}
	}
	return out
}

// files returns the Go files below the module's folders.
func files(t *testing.T) []file {
	t.Helper()
	var out []file
	for _, dir := range []string{"cmd", "internal", "pkg"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			out = append(out, file{filepath.ToSlash(name), strings.HasSuffix(path, "_test.go"), parsed})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(out) < 50 {
		t.Fatalf("only %d files found: the rules would hold of nothing", len(out))
	}
	return out
}

// TestFences holds who may import what.
func TestFences(t *testing.T) {
	fences := []struct {
		imports string
		only    []string
		why     string
	}{
		{"github.com/vishvananda/netlink", []string{"pkg/kernel/", "internal/netnstest/"}, "the kernel is touched in one package"},
		{"github.com/google/nftables", []string{"pkg/kernel/"}, "the kernel is touched in one package"},
		{"github.com/landlock-lsm/go-landlock", []string{"pkg/kernel/"}, "the kernel is touched in one package"},
		{"github.com/elastic/go-seccomp-bpf", []string{"pkg/kernel/"}, "the kernel is touched in one package"},
		{"golang.org/x/sys/unix", []string{"pkg/kernel/", "internal/netnstest/"}, "the kernel is touched in one package"},
		{"os/exec", []string{"pkg/kernel/", "internal/netnstest/", "internal/podscript/"}, "processes are started in one package"},
		{"libvirt.org/go/libvirt", []string{"pkg/launcher/"}, "it costs 14 ms and 15 MB at every start"},
		{"k8s.io/", nil, "Kubernetes' modules cost megabytes in every pod"},
		{"github.com/podwire/podwire/pkg/kernel", []string{"pkg/cli/", "pkg/launcher/"}, "what is pure stays pure"},
	}
	for _, f := range files(t) {
		for _, fence := range fences {
			inside := slices.ContainsFunc(fence.only, func(dir string) bool { return strings.HasPrefix(f.path, dir) })
			if f.test || inside {
				continue
			}
			for _, path := range f.imports() {
				if path == fence.imports || strings.HasSuffix(fence.imports, "/") && strings.HasPrefix(path, fence.imports) ||
					!strings.HasSuffix(fence.imports, "libvirt") && strings.HasPrefix(path, fence.imports+"/") {
					t.Errorf("%s imports %s: %s", f.path, path, fence.why)
				}
			}
		}
	}
}

// TestPurePackagesAskNobody: what is pure imports nothing that knows of files,
// processes, the network or the time of day.
func TestPurePackagesAskNobody(t *testing.T) {
	pure := []string{"plan", "discover", "dhcp4", "neighbor", "frame", "domxml", "resolvconf", "lease", "netstate", "config", "cni"}
	impure := []string{"os", "net/http", "syscall", "math/rand", "math/rand/v2", "crypto/rand", "log/slog", "log"}
	for _, f := range files(t) {
		dir := strings.TrimPrefix(filepath.Dir(f.path), "pkg/")
		if f.test || !slices.Contains(pure, dir) {
			continue
		}
		for _, path := range f.imports() {
			if slices.Contains(impure, path) {
				t.Errorf("%s imports %s", f.path, path)
			}
		}
	}
}

// TestEachPackageSaysWhatItIs: exactly one package comment, in the usual form.
func TestEachPackageSaysWhatItIs(t *testing.T) {
	docs, names := map[string]int{}, map[string]string{}
	for _, f := range files(t) {
		dir := filepath.Dir(f.path)
		if f.test && f.path != "internal/house/house_test.go" {
			continue
		}
		names[dir] = f.ast.Name.Name
		if f.ast.Doc == nil {
			continue
		}
		docs[dir]++
		want := "Package " + f.ast.Name.Name + " "
		if f.ast.Name.Name == "main" {
			want = "Command " + filepath.Base(dir) + " "
		}
		if !strings.HasPrefix(f.ast.Doc.Text(), want) {
			t.Errorf("%s: the package comment does not begin with %q", f.path, want)
		}
	}
	for dir := range names {
		if docs[dir] != 1 {
			t.Errorf("%s has %d package comments, want 1", dir, docs[dir])
		}
	}
}

// TestNoPackageIsADrawer: a name that says nothing attracts everything.
func TestNoPackageIsADrawer(t *testing.T) {
	for _, f := range files(t) {
		switch f.ast.Name.Name {
		case "util", "utils", "common", "helper", "helpers", "manager", "types", "base", "misc":
			t.Errorf("%s is in package %s", f.path, f.ast.Name.Name)
		}
	}
}

// TestMainsAreShort: a main that has logic has logic without tests.
func TestMainsAreShort(t *testing.T) {
	mains, err := filepath.Glob(root + "/cmd/*/main.go")
	if err != nil || len(mains) != 2 {
		t.Fatalf("mains = %v, %v", mains, err)
	}
	for _, path := range mains {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n > 30 {
			t.Errorf("%s has %d lines, want at most 30", path, n)
		}
	}
}
