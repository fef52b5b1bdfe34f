package bindings

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/pod"
)

// vnetHeader is the length of struct virtio_net_hdr.
const vnetHeader = 10

// The offloads that a hypervisor says its guest can take, from linux/if_tun.h.
const offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN

// cable stands in for a hypervisor with offloads: it carries frames between a link of a
// guest's namespace and a tap, with the header that says what is left to be done about
// each, so that one frame is up to 64 KiB of a TCP stream.
type cable struct {
	nic  *os.File
	done sync.WaitGroup

	mu      sync.Mutex
	tap     *os.File
	large   [2]int // frames that are several segments: from the guest, and to it
	arrived func(frame []byte, at time.Time)
}

// newCable makes the guest's link, up, with nothing at its other end.
func newCable(ctx context.Context, guest *pod.Space, mac string, mtu int) (*cable, error) {
	nic, err := openTap(guest, nicName, true)
	if err != nil {
		return nil, err
	}
	c := &cable{nic: nic}
	c.done.Go(c.fromGuest)
	if err := guest.IP(ctx, "link set %s address %s mtu %d up", nicName, mac, mtu); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// errNoTap is that there is no such tap yet, or that another has it open.
var errNoTap = errors.New("no such tap")

// openTap opens a tap with offloads, and makes it if that is wanted.
func openTap(space *pod.Space, name string, create bool) (file *os.File, err error) {
	err = space.Do(func() error {
		file, err = tapHere(name, create)
		return err
	})
	return file, err
}

// tapHere is openTap in the namespace of the calling thread.
func tapHere(name string, create bool) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := attach(fd, name, create); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENODEV) {
			return nil, errNoTap
		}
		return nil, fmt.Errorf("opening tap %q: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func attach(fd int, name string, create bool) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if !create { // to open one that is not there would make it
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		if err := unix.IoctlIfreq(s, unix.SIOCGIFINDEX, request); err != nil {
			return err
		}
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnetHeader); err != nil {
		return err
	}
	return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads)
}

// plug opens the pod's tap. What was plugged in before is let go of.
func (c *cable) plug(space *pod.Space, name string) error {
	tap, err := openTap(space, name, false)
	if err != nil {
		return err
	}
	c.use(tap)
	return nil
}

func (c *cable) use(tap *os.File) {
	c.unplug()
	c.mu.Lock()
	c.tap = tap
	c.mu.Unlock()
	c.done.Go(func() { c.fromTap(tap) })
}

// unplug lets go of the tap, as a hypervisor that ends.
func (c *cable) unplug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tap != nil {
		c.tap.Close()
		c.tap = nil
	}
}

func (c *cable) close() error {
	c.unplug()
	err := c.nic.Close()
	c.done.Wait()
	return err
}

// watch calls a function with each frame that comes out of the tap, until it is
// given another one.
func (c *cable) watch(arrived func(frame []byte, at time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrived = arrived
}

// largeFrames returns how many frames of several segments crossed, from the guest and to
// it.
func (c *cable) largeFrames() (from, to int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.large[0], c.large[1]
}

const maxFrame = 1<<16 + 64

// fromGuest carries what the guest sends, until its link is closed. A cable that
// leads nowhere loses it, and so does a tap that is down.
func (c *cable) fromGuest() {
	in := make([]byte, maxFrame)
	for {
		n, err := c.nic.Read(in)
		if err != nil {
			return
		}
		c.mu.Lock()
		tap := c.tap
		c.count(in[:n], 0)
		c.mu.Unlock()
		if tap != nil {
			_, _ = tap.Write(in[:n])
		}
	}
}

func (c *cable) fromTap(tap *os.File) {
	in := make([]byte, maxFrame)
	for {
		n, err := tap.Read(in)
		if err != nil {
			return
		}
		c.mu.Lock()
		if c.arrived != nil && n > vnetHeader {
			c.arrived(in[vnetHeader:n], time.Now())
		}
		c.count(in[:n], 1)
		c.mu.Unlock()
		_, _ = c.nic.Write(in[:n])
	}
}

// count looks at gso_type and gso_size of struct virtio_net_hdr.
func (c *cable) count(frame []byte, way int) {
	if len(frame) > vnetHeader && frame[1] != unix.VIRTIO_NET_HDR_GSO_NONE && binary.NativeEndian.Uint16(frame[4:]) > 0 {
		c.large[way]++
	}
}
