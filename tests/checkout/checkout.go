// Package checkout knows where things are in a checkout of podwire: the programs
// that `make build` left, and what hack/install.sh unpacked. It builds nothing
// and installs nothing.
package checkout

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Dir is the top of a checkout.
type Dir string

// Find returns the checkout that the working directory is in.
func Find() (Dir, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "hack", "install.sh")); err == nil {
			return Dir(dir), nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("looking for podwire's checkout: hack/install.sh is not above the working directory")
		}
		dir = parent
	}
}

// Build returns a path below build, which git ignores.
func (d Dir) Build(elem ...string) string {
	return filepath.Join(append([]string{string(d), "build"}, elem...)...)
}

// Program returns the path of one of podwire's own programs, of bin or of the
// directory below the checkout that PODWIRE_TEST_BIN names.
func (d Dir) Program(name string) (string, error) {
	bin := os.Getenv("PODWIRE_TEST_BIN")
	if bin == "" {
		bin = "bin"
	}
	path := filepath.Join(string(d), bin, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("looking for %s: %w; make build builds it", name, err)
	}
	return path, nil
}

// Busybox returns the path of a static busybox.
func (d Dir) Busybox() (string, error) { return d.Unpacked("bin/busybox", "usr/bin/busybox") }

// Dhclient returns the path of ISC's DHCP client.
func (d Dir) Dhclient() (string, error) { return d.Tool("dhclient") }

// Tool returns the path of a program of a distribution: the machine's own or, so
// that what a machine may not want need not be installed, the one unpacked. The
// latter may need Libraries.
func (d Dir) Tool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return d.Unpacked("sbin/"+name, "usr/sbin/"+name, "bin/"+name, "usr/bin/"+name)
}

// Libraries returns the directories of the libraries that were unpacked, in the
// form of LD_LIBRARY_PATH. Some packages still have theirs in /lib.
func (d Dir) Libraries() string {
	found, _ := filepath.Glob(d.Build("pkg", "usr", "lib", "*-linux-gnu")) // the patterns are good
	old, _ := filepath.Glob(d.Build("pkg", "lib", "*-linux-gnu"))
	return strings.Join(append(found, old...), string(filepath.ListSeparator))
}

// Unpacked returns the file below build/pkg that the first pattern matches that
// matches any; of several files, the last.
func (d Dir) Unpacked(patterns ...string) (string, error) {
	for _, pattern := range patterns {
		found, err := filepath.Glob(d.Build("pkg", pattern))
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", fmt.Errorf("looking for %s below %q: not there; hack/install.sh test puts it there",
		strings.Join(patterns, " or "), d.Build("pkg"))
}
