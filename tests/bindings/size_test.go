package bindings

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/pod"
)

var (
	errRefused = error(unix.ECONNREFUSED)
	// counted is the line of a counter of nft(8) that is not zero.
	counted = regexp.MustCompile(`packets [1-9]`)
)

// bulk is how much goes each way of a TCP connection, whose octets are all compared.
const bulk = 64 << 20

// pmtu: behind the route of narrow-0, what is larger does not pass. The guest is told,
// and its TCP gets on with it; and so with who sends to the guest.
func (w *world) pmtu() error {
	return both(func(like netip.Addr) error {
		narrow := pod.OfFamily(like, narrow4, narrow6)
		err := errors.Join(
			w.transfer(w.guest.Space, netip.AddrPortFrom(narrow, port), bulk/16),
			w.transfer(w.narrow.Space, netip.AddrPortFrom(w.own(like), port), bulk/16),
		)
		if err != nil {
			return err
		}
		return errors.Join(
			w.toldMTU(w.guest.Space, netip.AddrPortFrom(narrow, port)),
			w.toldMTU(w.narrow.Space, netip.AddrPortFrom(w.own(like), port)),
		)
	})
}

// toldMTU sends what must not be fragmented and is too large, until it is told how
// large it may be.
func (w *world) toldMTU(from *pod.Space, to netip.AddrPort) error {
	conn, err := from.Dial(w.ctx, "udp", to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	level, discover, mtu := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_MTU
	if to.Addr().Is6() {
		level, discover, mtu = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_MTU
	}
	if err := control(raw, func(fd int) error { return unix.SetsockoptInt(fd, level, discover, unix.IP_PMTUDISC_DO) }); err != nil {
		return err
	}
	return w.eventually(callTime, func() error {
		_, _ = conn.Write(block[:narrowMTU]) // which with its headers is more
		got := 0
		err := control(raw, func(fd int) (err error) {
			got, err = unix.GetsockoptInt(fd, level, mtu)
			return err
		})
		if err == nil && got != narrowMTU {
			err = fmt.Errorf("%s thinks that to %s the MTU is %d, and not %d", from.Name(), to.Addr(), got, narrowMTU)
		}
		return err
	})
}

func control(raw interface{ Control(func(uintptr)) error }, do func(fd int) error) (err error) {
	return errors.Join(raw.Control(func(fd uintptr) { err = do(int(fd)) }), err)
}

// transfer sends and receives so many octets by one connection.
func (w *world) transfer(from *pod.Space, to netip.AddrPort, n int64) error {
	t, err := w.dial(from, to, 30*time.Second)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := t.send(n); err != nil {
		return fmt.Errorf("%s sending %d MiB to %s: %w", from.Name(), n>>20, to, err)
	}
	if err := t.receive(n); err != nil {
		return fmt.Errorf("%s receiving %d MiB from %s: %w", from.Name(), n>>20, to, err)
	}
	return nil
}

// bulkTCP sends much both ways, and wants that most frames at the tap are many
// segments: else offloads were lost on the way.
func (w *world) bulkTCP() error {
	from0, to0 := w.guest.cable.largeFrames()
	err := errors.Join(
		w.transfer(w.guest.Space, netip.AddrPortFrom(far4, port), bulk),
		w.transfer(w.guest.Space, netip.AddrPortFrom(far6, port), bulk),
		w.transfer(w.far.Space, netip.AddrPortFrom(w.own(far4), port), bulk),
		w.transfer(w.other.Space, netip.AddrPortFrom(w.own(far6), port), bulk),
	)
	if err != nil {
		return err
	}
	from, to := w.guest.cable.largeFrames()
	// Each is at most 64 KiB, of four times so much each way; a third of that will do.
	if want := 4 * bulk / (1 << 16) / 3; from-from0 < want || to-to0 < want {
		return fmt.Errorf("%d frames from the guest and %d to it were of several segments, want %d of each", from-from0, to-to0, want)
	}
	return w.clean()
}

// clean: no host found a checksum to be wrong. (The kernel counts that, of TCP.)
func (w *world) clean() error {
	for _, s := range []*pod.Space{w.guest.Space, w.far.Space, w.other.Space} {
		content, err := s.Run(w.ctx, "cat", "/proc/net/snmp")
		if err != nil {
			return err
		}
		var names []string
		for line := range strings.Lines(content) {
			fields := strings.Fields(line)
			if fields[0] != "Tcp:" {
				continue
			}
			if names == nil {
				names = fields
				continue
			}
			for i, name := range names {
				if name == "InCsumErrors" && fields[i] != "0" {
					return fmt.Errorf("%s found %s TCP checksums wrong", s.Name(), fields[i])
				}
			}
		}
	}
	return nil
}
