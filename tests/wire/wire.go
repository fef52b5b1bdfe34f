// Package wire stands in for a hypervisor: it opens the guest's end of a tap and
// carries the frames to and from a link in a namespace of its own, so that real
// DHCP clients can be the guest. It counts what crosses, by kind.
//
// It changes no frame; it is no bridge and answers nothing.
package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/pod"
)

// vnetHeader is the length of struct virtio_net_hdr, which precedes each frame
// of a tap with IFF_VNET_HDR. All zero means: nothing is left to be done to the
// frame.
const vnetHeader = 10

// maxFrame is room for any frame that a tap without offloads hands over.
const maxFrame = 1 << 16

// Wire joins a tap to a link.
type Wire struct {
	tap, link *os.File
	done      sync.WaitGroup

	mu     sync.Mutex
	counts map[string]int
	sent   map[string]int       // of counts, by the guest
	first  map[string]time.Time // when a kind was first seen, or first sent by the guest
	up     time.Time            // when the link came up
	lose   func(kind string, frame []byte) bool
	err    error
}

// Connect opens the tap of that name in one space as a hypervisor does, and
// makes the link of that name in another, with the guest's MAC and MTU, up. The
// link goes when the wire is closed.
func Connect(ctx context.Context, host *pod.Space, tap string, guest *pod.Space, link, mac string, mtu int) (*Wire, error) {
	w := &Wire{counts: map[string]int{}, sent: map[string]int{}, first: map[string]time.Time{}}
	var err error
	if w.tap, err = open(host, tap, unix.IFF_VNET_HDR); err != nil {
		return nil, err
	}
	if w.link, err = open(guest, link, 0); err != nil {
		w.tap.Close()
		return nil, err
	}
	// Counted before it is up: nothing crosses unseen.
	w.done.Add(2)
	go w.carry(w.tap, w.link, vnetHeader, 0)
	go w.carry(w.link, w.tap, 0, vnetHeader)
	w.up = time.Now()
	if err := guest.IP(ctx, "link set %s address %s mtu %d up", link, mac, mtu); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// open opens a tap, and makes it if it is not there.
func open(space *pod.Space, name string, flags uint16) (file *os.File, err error) {
	err = space.Do(func() error {
		// Non-blocking, so that closing it ends a read.
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		request, err := unix.NewIfreq(name)
		if err == nil {
			request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | flags)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		// A persistent tap keeps what its last user set.
		if err == nil && flags&unix.IFF_VNET_HDR != 0 {
			err = unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnetHeader)
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		file = os.NewFile(uintptr(fd), name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("opening tap %q in %q: %w", name, space.Name(), err)
	}
	return file, nil
}

// carry moves frames until the wire is closed. A link that is down takes none:
// such frames are lost, as on a cable.
func (w *Wire) carry(from, to *os.File, strip, prepend int) {
	defer w.done.Done()
	in := make([]byte, maxFrame)
	for {
		n, err := from.Read(in)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				w.fail(fmt.Errorf("reading from %q: %w", from.Name(), err))
			}
			return
		}
		if n < strip {
			continue
		}
		frame := in[strip:n]
		if w.count(frame, from == w.link) {
			continue
		}
		_, err = to.Write(append(make([]byte, prepend, prepend+len(frame)), frame...))
		if err != nil && !errors.Is(err, unix.EIO) && !errors.Is(err, os.ErrClosed) {
			w.fail(fmt.Errorf("writing to %q: %w", to.Name(), err))
		}
	}
}

func (w *Wire) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, err)
}

// Close lets go of the tap, as a hypervisor that ends, and returns what went
// wrong on the way.
func (w *Wire) Close() error {
	err := errors.Join(w.tap.Close(), w.link.Close())
	w.done.Wait()
	return errors.Join(err, w.err)
}

// Lose has the wire lose the frames that a function picks, such as
// Unicast. They are counted nevertheless. With nil it loses none.
func (w *Wire) Lose(pick func(kind string, frame []byte) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = pick
}

// count counts a frame and reports whether it is to be lost.
func (w *Wire) count(frame []byte, sent bool) bool {
	kind := classify(frame)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counts[kind]++; w.counts[kind] == 1 {
		w.first[kind] = time.Now()
	}
	if sent {
		if w.sent[kind]++; w.sent[kind] == 1 {
			w.first[kind] = time.Now()
		}
	}
	return w.lose != nil && w.lose(kind, frame)
}

// Counts returns how many frames of each kind crossed, either way. The kinds
// are those of DHCP by their names in RFC 2131, and "arp", "ipv4", "ipv6",
// "other". What Counts6 tells apart is "ipv6" here.
func (w *Wire) Counts() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := map[string]int{}
	for kind, n := range w.counts {
		if ipv6(kind) {
			kind = "ipv6"
		}
		counts[kind] += n
	}
	return counts
}

// Counts6 returns how many messages of IPv6's own crossed, either way: "RS", "RA",
// "NS", "NA", "REDIRECT" of neighbour discovery, and those of DHCPv6 by their names
// in RFC 8415, of which "REQUEST6", "RELEASE6" and "DECLINE6" are not DHCPv4's.
func (w *Wire) Counts6() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := maps.Clone(w.counts)
	maps.DeleteFunc(counts, func(kind string, _ int) bool { return !ipv6(kind) || kind == "ipv6" })
	return counts
}

// Sent returns how many frames of each kind of Counts and Counts6 came from the
// guest: others on a shared network solicit routers too.
func (w *Wire) Sent() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.sent)
}

// First returns how long after the guest's link was brought up the first frame of a
// kind of Counts and Counts6 crossed, or if the guest sends such, the first of its own;
// false if none did.
func (w *Wire) First(kind string) (time.Duration, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.first[kind]
	return at.Sub(w.up), ok
}

// Up returns when the guest's link was brought up.
func (w *Wire) Up() time.Time { return w.up }
