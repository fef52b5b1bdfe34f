package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/guest"
	"github.com/podwire/podwire/tests/pod"
)

// queues are as many as the guest has CPUs: Linux uses no more of a card's.
const queues = 4

// manyTime is bootTime for a guest of many CPUs, of which the machine may have fewer.
const manyTime = 2 * bootTime

// TestGuestUsesAllQueues has a guest with four CPUs and four queues send and receive by
// each of them, on a card that is as podwire-launcher was asked for. One guest at a time:
// each is as much work as four.
func TestGuestUsesAllQueues(t *testing.T) {
	t.Parallel()
	for _, b := range pod.Bindings {
		t.Run(string(b), func(t *testing.T) {
			w := newWorld(t, "bridge", manyTime).with(b)
			m := w.bootDomain(t, guest.Domain{VCPUs: queues, Ask: []string{"podwire.listen=80"}},
				"--queues", strconv.Itoa(queues), "--model=virtio-non-transitional", "--vhost=off", "--pci-address=0000:00:10.0")
			w.wantCard(t, m)
			lease, err := m.Bound(w.Ctx)
			if err != nil {
				t.Fatal(err)
			}
			if want := w.GuestAddr().String(); lease["ip"] != want {
				t.Errorf("the guest has %s, want %s", lease["ip"], want)
			}
			w.wantQueues(t, m, w.echoes(t, w.Other.Space, w.Other.Addr.Addr()))
			w.wantPages(t, w.Other.Space, w.VM.Addr.Addr())
			w.terminate(t, m)
		})
	}
}

// wantCard checks that libvirt and the guest have the card that was asked for.
func (w *testWorld) wantCard(t *testing.T, m *machine) {
	t.Helper()
	xml := w.Output(t, w.VM.Space, "virsh -c qemu:///system dumpxml vm-0")
	for _, want := range []string{
		"<model type='virtio-non-transitional'/>", fmt.Sprintf("<driver name='qemu' queues='%d'/>", queues), "<mtu size='1450'/>",
		"<address type='pci' domain='0x0000' bus='0x00' slot='0x10' function='0x0'/>",
	} {
		if !strings.Contains(xml, want) {
			t.Errorf("the domain has no %s:\n%s", want, xml)
		}
	}
	w.run(t, m, "readlink -f /sys/class/net/eth0/device/.. | grep /0000:00:10.0$")
}

// bulk is what a guest sends, and gets back, in a connection: many frames.
const bulk = 500_000

// wantQueues has each CPU of a guest talk, and checks that each queue of its card did.
// A guest sends by the queue of the CPU, and the tap answers by the queue that a flow
// came by.
func (w *testWorld) wantQueues(t *testing.T, m *machine, peer netip.AddrPort) {
	t.Helper()
	if got, err := m.Queues(w.Ctx, "eth0"); got != queues || err != nil {
		t.Fatalf("the guest uses %d queues, %v; want %d", got, err, queues)
	}
	for cpu := range queues {
		w.wantEcho(t, m, peer, fmt.Sprintf("taskset %x", 1<<cpu))
	}
	interrupts := w.run(t, m, "grep -- -input /proc/interrupts")
	for queue := range queues {
		if received(interrupts, queue) == 0 {
			t.Errorf("nothing came by queue %d:\n%s", queue, interrupts)
		}
	}
}

// wantEcho has a guest send a file to where it comes back from, and compare; how it runs
// the program may be said. The file is kept for others to fetch.
func (w *testWorld) wantEcho(t *testing.T, m *machine, peer netip.AddrPort, how ...string) {
	t.Helper()
	w.run(t, m, fmt.Sprintf("cd /www; [ -e bulk ] || head -c %d /dev/urandom >bulk", bulk))
	w.run(t, m, fmt.Sprintf(`cd /www; [ "$(%s nc -w 20 %s %d <bulk | md5sum)" = "$(md5sum <bulk)" ]`,
		strings.Join(how, " "), peer.Addr(), peer.Port()))
}

// received returns how many interrupts a queue of a virtio card had for what it received:
// they are named for it, as in virtio0-input.1.
func received(interrupts string, queue int) (sum int) {
	for line := range strings.Lines(interrupts) {
		words := strings.Fields(line)
		if len(words) == 0 || !strings.HasSuffix(words[len(words)-1], fmt.Sprintf("-input.%d", queue)) {
			continue
		}
		for _, word := range words {
			n, _ := strconv.Atoi(word) // those that are no numbers count nothing
			sum += n
		}
	}
	return sum
}

// wantPages fetches what a guest has from inside of a space.
func (w *testWorld) wantPages(t *testing.T, from *pod.Space, addr netip.Addr) {
	t.Helper()
	site := "http://" + net.JoinHostPort(addr.String(), "80")
	page, err := w.fetch(from, site+"/")
	if err != nil || strings.TrimSpace(page) != "vm-0" {
		t.Errorf("%s fetched %q, %v", from.Name(), page, err)
	}
	all, err := w.fetch(from, site+"/bulk")
	if err != nil || len(all) != bulk {
		t.Errorf("%s fetched %d octets, %v; want %d", from.Name(), len(all), err, bulk)
	}
}

// echoes has a space send back all that it is sent, once that has ended, and returns
// where it does so.
func (w *testWorld) echoes(t *testing.T, s *pod.Space, addr netip.Addr) netip.AddrPort {
	t.Helper()
	var l net.Listener
	err := s.Do(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(addr.String(), "0"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	context.AfterFunc(w.Ctx, func() { l.Close() })
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				if err := echo(conn); err != nil {
					t.Logf("%s could not send back what it was sent: %v", s.Name(), err)
				}
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

func echo(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	all, err := io.ReadAll(conn)
	if err == nil {
		_, err = conn.Write(all)
	}
	return errors.Join(err, conn.Close())
}
