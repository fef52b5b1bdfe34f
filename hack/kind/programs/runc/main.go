// Command runc stands between a container engine and the real runc, on machines
// that withhold a capability from root, as sandboxes and some virtual machines do.
//
// There, runc fails for every privileged container: it asks the kernel for all
// capabilities, and (without CAP_SYS_RESOURCE) for a lower OOM score. This program
// takes out of the container's specification what the kernel would refuse, and
// then becomes runc. On a machine that withholds nothing it changes nothing.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "podwire runc: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if file, isProcess := specification(args); file != "" {
		if err := adapt(file, isProcess, machine()); err != nil {
			return fmt.Errorf("adapting %q: %w", file, err)
		}
	}
	runc, err := realRunc()
	if err != nil {
		return err
	}
	return syscall.Exec(runc, append([]string{"runc"}, args...), os.Environ())
}

// specification returns the file that says what runc is to run: that of a whole
// container for create and run, that of one process for exec.
func specification(args []string) (file string, isProcess bool) {
	command := ""
	bundle := "."
	for i := 0; i < len(args); i++ {
		name, value, joined := cutFlag(args[i])
		next := func() string {
			if !joined && i+1 < len(args) {
				i++
				return args[i]
			}
			return value
		}
		switch name {
		case "create", "run", "exec":
			if command == "" {
				command = name
			}
		case "-b", "-bundle":
			bundle = next()
		case "-p", "-process":
			file = next()
		case "-root", "-log", "-log-format", "-pid-file", "-console-socket":
			next() // its value may well be called "run"
		}
	}
	switch command {
	case "create", "run":
		return filepath.Join(bundle, "config.json"), false
	case "exec":
		return file, true
	}
	return "", false
}

// realRunc finds the distribution's runc, which is not this program.
func realRunc() (string, error) {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", err
	}
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/bin", "/usr/local/sbin") {
		path := filepath.Join(dir, "runc")
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && !os.SameFile(info, self) {
			return path, nil
		}
	}
	return "", fmt.Errorf("no runc in %q", os.Getenv("PATH"))
}
