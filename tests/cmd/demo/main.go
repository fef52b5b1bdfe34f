// Command demo shows podwire's main job on real input: a pod that the CNI plugins
// bridge and host-local made, and a guest that libvirt and QEMU boot in it. It
// changes nothing on the machine, and leaves nothing behind, however it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/guest"
	"github.com/podwire/podwire/tests/pod"
)

// limit is how long the demo may take in all, where it takes ten seconds.
const limit = 2 * time.Minute

const (
	podMTU     = 1450
	resolvConf = "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
	consoleAt  = "/run/demo/console"
	domainAt   = "/run/demo/vm-0.xml"
)

var (
	subnet  = netip.MustParsePrefix("10.244.1.0/24")
	subnet6 = netip.MustParsePrefix("fd00:10:244:1::/64")
)

func main() { os.Exit(run()) }

func run() int {
	verbose := flag.Bool("v", false, "show the launcher's log")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	d := &demo{transcript: newTranscript(os.Stdout), verbose: *verbose}
	err := d.run(ctx)
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "demo: interrupted; nothing is left behind")
		return 1
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		if log := d.log.String(); log != "" && !d.verbose {
			fmt.Fprintf(os.Stderr, "\npodwire-launcher's log:\n%s", log)
		}
		return 1
	}
	return 0
}

// demo is the run of the demo.
type demo struct {
	*transcript
	verbose  bool
	dir      checkout.Dir
	podwire  string // paths
	launcher string
	image    guest.Image
	accel    string
	node     *pod.Node
	vm, web  *pod.Pod
	console  *guest.Console
	running  *exec.Cmd // the launcher
	log      pod.Log   // of the launcher
}

func (d *demo) run(ctx context.Context) (err error) {
	if err := d.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.makePods(ctx); err != nil {
		return err
	}
	before, err := d.vm.Dump(ctx)
	if err != nil {
		return err
	}
	if err := d.plan(ctx); err != nil {
		return err
	}
	if err := d.boot(ctx); err != nil {
		return err
	}
	if err := d.look(ctx); err != nil {
		return err
	}
	if err := d.shutDown(ctx); err != nil {
		return err
	}
	return d.compare(ctx, before)
}

// prepare finds the programs, builds the guest, and chooses KVM or TCG.
func (d *demo) prepare(ctx context.Context) (err error) {
	if os.Getuid() != 0 {
		return errors.New("making namespaces takes root")
	}
	if d.dir, err = checkout.Find(); err != nil {
		return err
	}
	if d.podwire, err = d.dir.Program("podwire"); err != nil {
		return err
	}
	if d.launcher, err = d.dir.Program("podwire-launcher"); err != nil {
		return err
	}
	if d.image, err = guest.Build(d.dir); err != nil {
		return err
	}
	d.accel, err = guest.Accel(ctx, d.dir, d.image, func() {
		fmt.Fprintln(os.Stderr, "demo: trying whether a guest boots under KVM, once, for 5 s at the most")
	})
	return err
}

// close ends all that the demo made.
func (d *demo) close() error {
	if d.node == nil {
		return nil
	}
	if d.running != nil {
		_ = d.running.Process.Kill() // it may have ended
		go d.running.Wait()          // or its namespaces would stay
	}
	return d.node.Close()
}

// makePods makes a node with two pods, as a cluster would, and shows the one
// that is to hold the VM.
func (d *demo) makePods(ctx context.Context) (err error) {
	if d.node, err = pod.NewNode(ctx, d.dir); err != nil {
		return err
	}
	network := pod.BridgeNetwork(subnet, podMTU).And(subnet6)
	if d.vm, err = d.node.NewPod(ctx, "vm-0", network); err != nil {
		return err
	}
	if d.web, err = d.node.NewPod(ctx, "web-0", network); err != nil {
		return err
	}
	if err := errors.Join(d.vm.SetResolvConf(resolvConf), d.vm.PrepareLibvirt()); err != nil {
		return err
	}
	d.chapter("The pod, as the CNI plugins bridge and host-local made it")
	return d.show(ctx, "ip -brief address show dev eth0", "ip route", "ip -6 route", "cat /etc/resolv.conf")
}

// show runs commands in the VM's pod.
func (d *demo) show(ctx context.Context, commands ...string) error {
	for _, each := range commands {
		words := strings.Fields(each)
		out, err := d.vm.Run(ctx, words[0], words[1:]...)
		if err != nil {
			return err
		}
		d.command("pod#", each, out)
	}
	return nil
}

// plan shows what podwire is going to do.
func (d *demo) plan(ctx context.Context) error {
	d.chapter("What podwire is going to do to it")
	out, err := d.vm.Run(ctx, d.podwire, "plan")
	if err != nil {
		return err
	}
	d.command("pod#", "podwire plan", out)
	return nil
}

// boot has podwire-launcher run the guest, as the container of a VM pod does.
func (d *demo) boot(ctx context.Context) error {
	listener, err := d.vm.Listen(consoleAt)
	if err != nil {
		return err
	}
	d.console = guest.Listen(listener)
	xml, err := guest.Domain{Name: "vm-0", Image: d.image, Accel: d.accel, Console: consoleAt, Ask: []string{"podwire.ip6=wait"}}.XML()
	if err != nil {
		return err
	}
	if err := d.vm.WriteFile(domainAt, []byte(xml), 0o644); err != nil {
		return err
	}
	d.chapter("A guest boots in the pod, under libvirt and QEMU with %s", strings.ToUpper(d.accel))
	d.command("pod#", "podwire-launcher --start-libvirtd vm-0.xml &", "")
	launcher := exec.Command(d.launcher, "--start-libvirtd", domainAt)
	launcher.Stdout, launcher.Stderr = &d.log, &d.log
	if d.verbose {
		launcher.Stdout, launcher.Stderr = os.Stderr, os.Stderr
	}
	launcher.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for the demo
	if err := d.vm.Start(launcher); err != nil {
		return err
	}
	d.running = launcher
	for _, line := range []string{"up .*", "nic .*", "dhcp .*", "dhcp6 .*", "ready"} {
		match, err := d.console.WaitFor(ctx, "^"+guest.Prefix+line)
		if err != nil {
			return err
		}
		d.text(match[0])
	}
	return nil
}

// look asks the guest what it got, and whom it reaches.
func (d *demo) look(ctx context.Context) error {
	lease, err := d.console.Bound(ctx)
	if err != nil {
		return err
	}
	discovers, err := d.console.Discovers(ctx)
	if err != nil {
		return err
	}
	d.chapter("What the guest's DHCP client was told, after %d DISCOVER", discovers)
	d.told(lease)
	if lease, err = d.console.Bound6(ctx); err != nil {
		return err
	}
	d.chapter("And its DHCPv6 client")
	d.told(lease)
	d.chapter("The guest, on its console; its IPv6 routes came by router advertisements")
	for _, command := range []string{"ip address show dev eth0", "ip route", "ip route get " + pod.Outside6.String(), "cat /etc/resolv.conf"} {
		if _, err := d.ask(ctx, command); err != nil {
			return err
		}
	}
	for _, target := range []struct {
		addr netip.Addr
		what string
	}{
		{d.vm.Gateway, "the gateway"},
		{d.web.Addr.Addr(), "another pod"},
		{pod.Outside, "a host outside of the pod network"},
		{d.vm.Gateways[1], "the gateway"},
		{d.web.Addrs[1].Addr(), "another pod"},
		{pod.Outside6, "a host outside of the pod network"},
	} {
		out, err := d.ask(ctx, fmt.Sprintf("ping -c 1 %s | grep from    # %s", target.addr, target.what))
		if err != nil {
			return err
		}
		if !strings.Contains(out, target.addr.String()) {
			return fmt.Errorf("the guest does not reach %s, %s", target.addr, target.what)
		}
	}
	return nil
}

// told shows a lease.
func (d *demo) told(lease guest.Lease) {
	for _, key := range []string{"ip", "mask", "router", "routes", "dns", "search", "mtu", "hostname", "lease", "serverid"} {
		if lease[key] == infinite {
			lease[key] = "infinite"
		}
		if lease[key] != "" {
			d.text(fmt.Sprintf("%-9s %s", key, strings.ReplaceAll(lease[key], ",", " ")))
		}
	}
}

// infinite is the lease time of RFC 2131 §3.3, as udhcpc prints it.
const infinite = "4294967295"

// ask has the guest run a command.
func (d *demo) ask(ctx context.Context, command string) (string, error) {
	out, status, err := d.console.Run(ctx, command)
	if err != nil {
		return "", err
	}
	d.command("guest#", command, out)
	if status != 0 {
		return "", fmt.Errorf("the guest's %q ended with %d", command, status)
	}
	return out, nil
}

// shutDown ends the launcher as the kubelet does.
func (d *demo) shutDown(ctx context.Context) error {
	d.chapter("The pod is told to end: SIGTERM to podwire-launcher")
	if err := d.running.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	ended := make(chan error, 1)
	launcher := d.running
	d.running = nil // this goroutine waits for it
	go func() { ended <- launcher.Wait() }()
	if _, err := d.console.WaitFor(ctx, "power-button"); err != nil {
		_ = launcher.Process.Kill()
		return err
	}
	d.good("the guest saw its power button pressed, and shut down")
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("podwire-launcher: %w", err)
		}
		d.good("podwire-launcher ended with exit code 0")
		return nil
	case <-ctx.Done():
		_ = launcher.Process.Kill()
		return fmt.Errorf("waiting for podwire-launcher to end: %w", context.Cause(ctx))
	}
}

// compare looks whether the pod's network is as it was.
func (d *demo) compare(ctx context.Context, before string) error {
	d.chapter("The pod's network, afterwards")
	if err := d.show(ctx, "ip -brief address show dev eth0", "ip route", "ip -6 route"); err != nil {
		return err
	}
	after, err := d.vm.Dump(ctx)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(after, "\n")); diff != "" {
		return fmt.Errorf("the pod's network is not as it was (-before +after):\n%s", diff)
	}
	d.good("its links, addresses, routes, rules, neighbours, qdiscs, filters and nftables are as they were (%d lines)",
		strings.Count(before, "\n"))
	return nil
}
