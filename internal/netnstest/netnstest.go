//go:build linux

// Package netnstest gives tests real network namespaces: made in microseconds,
// joined by veth pairs, gone without a trace when the test ends, however it ends.
//
// It is for tests alone, and the one place beside pkg/kernel that may speak
// netlink: what a test sets up must not be set up by the code under test.
//
// To make a namespace takes root (CAP_SYS_ADMIN and CAP_NET_ADMIN). Without it a
// test is skipped, but fails where the environment says CI=true.
package netnstest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ownNamespace is that of the calling thread.
const ownNamespace = "/proc/thread-self/ns/net"

// NS is a network namespace that lives as long as its test.
type NS struct {
	// Path can be opened by this process and its children. It is a name for an
	// open file of this process: nothing is mounted, so nothing is left behind
	// by a test that is killed.
	Path string

	file   *os.File
	handle *netlink.Handle
}

// New makes a namespace in which only lo is, and is up.
func New(t testing.TB) *NS {
	t.Helper()
	f, err := unshare()
	if errors.Is(err, unix.EPERM) {
		lacking(t, "making a network namespace takes root: "+err.Error())
	}
	if err != nil {
		t.Fatalf("making a network namespace: %v", err)
	}
	ns := &NS{Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), file: f}
	t.Cleanup(func() { f.Close() })
	if ns.handle, err = netlink.NewHandleAt(netns.NsHandle(f.Fd()), unix.NETLINK_ROUTE); err != nil {
		t.Fatalf("opening a netlink socket in a new namespace: %v", err)
	}
	t.Cleanup(ns.handle.Close)
	ns.Up(t, "lo")
	return ns
}

// lacking ends a test that the machine does not let run.
func lacking(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// unshare makes a namespace and leaves the thread where it was.
func unshare() (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result)
	go func() {
		var r result
		r.err = onOwnThread(func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			r.file, r.err = os.Open(ownNamespace)
			return r.err
		})
		made <- r
	}()
	r := <-made
	return r.file, r.err
}

// onOwnThread calls f and takes the thread back to its namespace. One that does
// not go back ends with its goroutine, which must do nothing else.
func onOwnThread(f func() error) error {
	runtime.LockOSThread()
	own, err := os.Open(ownNamespace)
	if err != nil {
		return err
	}
	defer own.Close()
	err = f()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return err
}

// Do calls f inside the namespace. What f starts as goroutines is outside.
// f may call t.Error, but not t.Fatal: it runs on another goroutine.
func (ns *NS) Do(t testing.TB, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		done <- onOwnThread(func() error {
			if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			f()
			return nil
		})
	}()
	if err := <-done; err != nil {
		t.Fatalf("entering a network namespace: %v", err)
	}
}

// Command is a command that runs inside. It ends with the test.
func (ns *NS) Command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		lacking(t, "nsenter (util-linux) is not installed")
	}
	return exec.CommandContext(t.Context(), nsenter, append([]string{"--net=" + ns.Path, "--", name}, args...)...)
}

// Run runs a command inside and returns what it prints. A command that fails
// ends the test.
func (ns *NS) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		lacking(t, name+" is not installed")
	}
	var stderr strings.Builder
	cmd := ns.Command(t, name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// IP runs lines of ip(8), without the word ip, in order. A line may begin with -6.
func (ns *NS) IP(t testing.TB, lines ...string) {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		lacking(t, "ip (iproute2) is not installed")
	}
	for len(lines) > 0 {
		// One process takes as many lines as are of one family.
		_, ipv6 := strings.CutPrefix(lines[0], "-6 ")
		batch, args := "", []string{"-batch", "-"}
		if ipv6 {
			args = []string{"-6", "-batch", "-"}
		}
		for len(lines) > 0 {
			line, is6 := strings.CutPrefix(lines[0], "-6 ")
			if is6 != ipv6 {
				break
			}
			batch, lines = batch+line+"\n", lines[1:]
		}
		cmd := ns.Command(t, "ip", args...)
		cmd.Stdin = strings.NewReader(batch)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s\n%s", strings.Join(args, " "), err, out, batch)
		}
	}
}

// Veth joins two namespaces, which may be one, by a pair of links that are up.
func Veth(t testing.TB, a *NS, nameA string, b *NS, nameB string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = nameA
	pair := &netlink.Veth{
		LinkAttrs:     attrs,
		PeerName:      nameB,
		PeerNamespace: netlink.NsFd(int(b.file.Fd())),
	}
	if err := a.handle.LinkAdd(pair); err != nil {
		t.Fatalf("creating veth %q and %q: %v", nameA, nameB, err)
	}
	a.Up(t, nameA)
	b.Up(t, nameB)
}

// Up brings a link up.
func (ns *NS) Up(t testing.TB, name string) {
	t.Helper()
	if err := ns.handle.LinkSetUp(ns.link(t, name)); err != nil {
		t.Fatalf("bringing %q up: %v", name, err)
	}
}

// Down brings a link down.
func (ns *NS) Down(t testing.TB, name string) {
	t.Helper()
	if err := ns.handle.LinkSetDown(ns.link(t, name)); err != nil {
		t.Fatalf("bringing %q down: %v", name, err)
	}
}

// Delete removes a link.
func (ns *NS) Delete(t testing.TB, name string) {
	t.Helper()
	if err := ns.handle.LinkDel(ns.link(t, name)); err != nil {
		t.Fatalf("deleting %q: %v", name, err)
	}
}

// Index is a link's number, or 0 where there is no such link.
func (ns *NS) Index(t testing.TB, name string) int {
	t.Helper()
	l, err := ns.handle.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return 0
	}
	if err != nil {
		t.Fatalf("reading link %q: %v", name, err)
	}
	return l.Attrs().Index
}

func (ns *NS) link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := ns.handle.LinkByName(name)
	if err != nil {
		t.Fatalf("reading link %q: %v", name, err)
	}
	return l
}

// Addr gives a link an address such as 10.244.1.7/24. An IPv6 one can be used at
// once.
func (ns *NS) Addr(t testing.TB, link, cidr string) {
	t.Helper()
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatalf("address %q: %v", cidr, err)
	}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := ns.handle.AddrAdd(ns.link(t, link), addr); err != nil {
		t.Fatalf("adding %q to %q: %v", cidr, link, err)
	}
}

// Route adds a route by a gateway, or, where via is empty, by the link alone.
func (ns *NS) Route(t testing.TB, dst, via, link string) {
	t.Helper()
	_, ipnet, err := net.ParseCIDR(dst)
	if err != nil {
		t.Fatalf("route %q: %v", dst, err)
	}
	route := &netlink.Route{Dst: ipnet, LinkIndex: ns.link(t, link).Attrs().Index}
	if via != "" {
		route.Gw = netip.MustParseAddr(via).AsSlice()
	} else {
		route.Scope = netlink.SCOPE_LINK
	}
	if err := ns.handle.RouteAdd(route); err != nil {
		t.Fatalf("adding route %q via %q by %q: %v", dst, via, link, err)
	}
}
