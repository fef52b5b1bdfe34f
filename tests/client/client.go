// Package client runs real network clients in a namespace, and reports what they
// were told, each as it shows it: udhcpc, dhclient, dhcpcd, systemd-networkd,
// NetworkManager, the kernel itself, and iPXE in a machine of its own.
//
// Where there is a script, it applies the address and the routes, so that renewals
// find their way. Drivers are the same clients behind one interface, for a matrix.
//
// It knows nothing of podwire: what it reports is a witness's word.
package client

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/pod"
)

// Event is one call of a client's script.
type Event struct {
	// Reason is what the client calls it: bound, renew, deconfig, nak, leasefail
	// for udhcpc; BOUND, RENEW, REBIND, REBOOT, EXPIRE and so on for dhclient and
	// dhcpcd, and BOUND6 and so on for their DHCPv6.
	Reason string
	// Told is the script's environment: "router" and the like for udhcpc, which
	// has lists with blanks; "new_routers" and the like for dhclient and dhcpcd.
	Told map[string]string
}

// Client is a running DHCP client.
type Client struct {
	cmd    *exec.Cmd
	pipe   *os.File
	events chan Event
	log    pod.Log
	ended  chan struct{} // closed when the process has ended
	err    error         // how it ended
}

//go:embed script
var script []byte

// dhclientConf asks for all that podwire hands out. The option 121 has to be
// declared: dhclient does not know it by itself.
const dhclientConf = `option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
timeout 20;
retry 1;
initial-interval 1;
request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers,
	domain-search, host-name, interface-mtu, ntp-servers, rfc3442-classless-static-routes;
`

// dhclient6Conf is the same for DHCPv6. The server says a name only to those who ask
// by naming themselves (RFC 4704 §4).
const dhclient6Conf = `timeout 20;
send fqdn.fqdn "asked";
request dhcp6.name-servers, dhcp6.domain-search, dhcp6.fqdn;
`

// Udhcpc starts busybox's client on a link of a space.
func Udhcpc(space *pod.Space, dir checkout.Dir, link string, args ...string) (*Client, error) {
	busybox, err := dir.Busybox()
	if err != nil {
		return nil, err
	}
	at := "/run/udhcpc-" + link
	return start(space, at, exec.Command(busybox, append([]string{
		"udhcpc", "-f", "-i", link, "-s", at + "/script", "-t", "5", "-T", "1", "-A", "1",
		"-O", "hostname", "-O", "domain", "-O", "mtu", "-O", "search", "-O", "staticroutes", "-O", "ntpsrv",
	}, args...)...))
}

// Dhclient starts ISC's client on a link of a space. The lease file may hold an
// earlier lease, such as Leased makes; the configuration is added to that which
// asks for everything.
func Dhclient(space *pod.Space, dir checkout.Dir, link, leases, conf string) (*Client, error) {
	return dhclient(space, dir, link, "-4", leases, dhclientConf+conf)
}

// Dhclient6 is Dhclient for DHCPv6, on a link that has a link-local address.
func Dhclient6(space *pod.Space, dir checkout.Dir, link, conf string) (*Client, error) {
	return dhclient(space, dir, link, "-6", "", dhclient6Conf+conf)
}

func dhclient(space *pod.Space, dir checkout.Dir, link, family, leases, conf string) (*Client, error) {
	path, err := dir.Dhclient()
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	at := "/run/dhclient" + family + "-" + link
	err = errors.Join(
		// A copy: AppArmor's profile for the original forbids scripts and lease
		// files of one's own.
		space.WriteFile(at+"/dhclient", program, 0o755),
		space.WriteFile(at+"/leases", []byte(leases), 0o644),
		space.WriteFile(at+"/conf", []byte(conf), 0o644),
	)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(at+"/dhclient", "-d", "-v", family, "-sf", at+"/script", "-lf", at+"/leases",
		"-cf", at+"/conf", "-pf", at+"/pid", link)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+dir.Libraries())
	return start(space, at, cmd)
}

// Leased is the content of a lease file, with a lease of another day that has
// not run out: with it, dhclient begins in INIT-REBOOT (RFC 2131 §3.2).
func Leased(link string, addr, server netip.Addr) string {
	const layout = "2006/01/02 15:04:05"
	now := time.Now().UTC()
	return fmt.Sprintf(`lease {
  interface %q;
  fixed-address %s;
  option subnet-mask 255.255.255.0;
  option dhcp-lease-time 86400;
  option dhcp-message-type 5;
  option dhcp-server-identifier %s;
  renew 0 %s;
  rebind 0 %s;
  expire 0 %s;
}
`, link, addr, server, now.Add(8*time.Hour).Format(layout), now.Add(12*time.Hour).Format(layout), now.Add(24*time.Hour).Format(layout))
}

// start starts a client whose files are in a directory of the space; its script
// there writes to a named pipe, since clients close what else they inherit.
func start(space *pod.Space, at string, cmd *exec.Cmd) (*Client, error) {
	c := &Client{cmd: cmd, events: make(chan Event, 64), ended: make(chan struct{})}
	err := space.WriteFile(at+"/script", script, 0o755)
	if err == nil {
		c.pipe, err = openPipe(space, at+"/told")
	}
	if err != nil {
		return nil, fmt.Errorf("preparing a DHCP client: %w", err)
	}
	cmd.Stdout, cmd.Stderr = &c.log, &c.log
	if err := space.Start(cmd); err != nil {
		c.pipe.Close()
		return nil, fmt.Errorf("starting a DHCP client: %w", err)
	}
	go c.read()
	go func() {
		c.err = cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// openPipe makes a named pipe and opens it for both ends, so that it has no end
// of file while the client lives.
func openPipe(space *pod.Space, path string) (file *os.File, err error) {
	err = space.Do(func() error {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			return err
		}
		file, err = os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
		return err
	})
	return file, err
}

// read turns what the scripts write into events: lines NAME=VALUE, the reason
// first, and an empty line.
func (c *Client) read() {
	event := Event{Told: map[string]string{}}
	for lines := bufio.NewScanner(c.pipe); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		switch name {
		case "":
			c.events <- event
			event = Event{Told: map[string]string{}}
		case "event":
			event.Reason = value
		default:
			event.Told[name] = value
		}
	}
}

// Wait returns the next event that is for one of the reasons. Those before it
// are gone.
func (c *Client) Wait(ctx context.Context, reasons ...string) (Event, error) {
	for {
		event, err := c.next(ctx)
		if err != nil {
			return Event{}, fmt.Errorf("waiting for %q of %s: %w\n%s", reasons, c.name(), err, c.log.String())
		}
		if slices.Contains(reasons, event.Reason) {
			return event, nil
		}
	}
}

// next returns the next event. What the script wrote before the client ended may
// have yet to be read.
func (c *Client) next(ctx context.Context) (Event, error) {
	select {
	case event := <-c.events:
		return event, nil
	case <-ctx.Done():
		return Event{}, context.Cause(ctx)
	case <-c.ended:
	}
	select {
	case event := <-c.events:
		return event, nil
	case <-time.After(time.Second):
		return Event{}, fmt.Errorf("it ended: %w", c.err)
	}
}

// Signal sends the client a signal; udhcpc renews at SIGUSR1.
func (c *Client) Signal(sig os.Signal) error { return c.cmd.Process.Signal(sig) }

// Stop ends the client as a crash would: it releases nothing.
func (c *Client) Stop() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.ended
	c.pipe.Close()
}

// Log returns what the client printed.
func (c *Client) Log() string { return c.log.String() }

func (c *Client) name() string { return filepath.Base(c.cmd.Path) }
