package client

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/pod"
)

// Guest is where a driver runs its client.
type Guest struct {
	Space *pod.Space
	Dir   checkout.Dir
	Link  string // is there, and up
}

// Driver runs one client for one family, and reports what it was told.
type Driver struct {
	Name string // as people call it
	IPv4 bool   // or IPv6
	// Cannot says of the columns that this client has no means for, why, given its
	// version; nil where it can all.
	Cannot func(version string) map[string]string
	// Kernel leaves router advertisements to the kernel. Other clients of IPv6
	// take them themselves.
	Kernel bool
	// Version is a line that the client prints about itself.
	Version func(ctx context.Context, g Guest) (string, error)
	// Run starts the client, waits until it has done its work, and ends it.
	Run func(ctx context.Context, g Guest) (Told, error)
}

// Drivers are all that run in a namespace. iPXE, which brings its own machine, is
// not among them.
func Drivers() []Driver {
	return []Driver{
		udhcpcDriver, dhclientDriver, dhcpcdDriver, networkdDriver, networkManagerDriver,
		udhcpc6Driver, dhclient6Driver, dhcpcd6Driver, networkd6Driver, networkManager6Driver, kernelDriver,
	}
}

// Prepare is to be called before the client's link is there: it says what the
// kernel makes of router advertisements there, and whether it has any IPv6 at all.
func (d Driver) Prepare(space *pod.Space) error {
	settings := map[string]string{"disable_ipv6": "0", "accept_ra": "0", "accept_ra_rt_info_max_plen": "0"}
	switch {
	case d.IPv4:
		settings["disable_ipv6"] = "1"
	case d.Kernel:
		// By itself the kernel takes no route information (RFC 4191).
		settings["accept_ra"], settings["accept_ra_rt_info_max_plen"] = "1", "128"
	}
	for name, value := range settings {
		if err := space.Sysctl("net/ipv6/conf/default/"+name, value); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

// always is a Cannot that holds for every version.
func always(reasons map[string]string) func(string) map[string]string {
	return func(string) map[string]string { return reasons }
}

// Lacks are the columns that this version has no means for, and why.
func (d Driver) Lacks(version string) map[string]string {
	if d.Cannot == nil {
		return nil
	}
	return d.Cannot(version)
}

// routesByRA is why DHCPv6 clients know no routes.
const routesByRA = "DHCPv6 carries no routes (RFC 8415): they come by router advertisements, which the kernel takes"

// version returns a Version that runs a command and takes what a pattern's group
// matches of all that it prints.
func version(pattern string, command func(g Guest) ([]string, error)) func(context.Context, Guest) (string, error) {
	re := regexp.MustCompile(pattern)
	return func(ctx context.Context, g Guest) (string, error) {
		words, err := command(g)
		if err != nil {
			return "", err
		}
		// Some print it to standard error, or end with a status of their own.
		out, err := g.Space.Run(ctx, "sh", append([]string{"-c", `"$@" 2>&1 || true`, "sh"}, words...)...)
		if err != nil {
			return "", err
		}
		match := re.FindStringSubmatch(out)
		if match == nil {
			return "", fmt.Errorf("asking for the version: %q says %q", words[0], out)
		}
		return match[1], nil
	}
}

// tool is version's command for a program of the distribution, which may need the
// libraries that were unpacked with it.
func tool(name string, args ...string) func(g Guest) ([]string, error) {
	return func(g Guest) ([]string, error) {
		path, err := g.Dir.Tool(name)
		return append([]string{"env", "LD_LIBRARY_PATH=" + g.Dir.Libraries(), path}, args...), err
	}
}

// poll asks until what it asks for is there, and returns the last that it got.
func poll(ctx context.Context, what string, ask func() (Told, bool, error)) (Told, error) {
	for {
		told, done, err := ask()
		if err != nil || done {
			return told, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return told, fmt.Errorf("waiting for %s: %w; there is %q", what, context.Cause(ctx), told)
		}
	}
}

// linkLocal waits until the link has a link-local address that is ready: without
// one, DHCPv6 has no address to ask from (RFC 8415 §13.1).
func linkLocal(ctx context.Context, g Guest) error {
	_, err := poll(ctx, "a link-local address", func() (Told, bool, error) {
		out, err := g.Space.Run(ctx, "ip", "-6", "address", "show", "dev", g.Link, "scope", "link", "-tentative")
		return nil, strings.Contains(out, "fe80:"), err
	})
	return err
}
