package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/pod"
)

// Socket sends and hears whole frames on a link of a space, past its network stack: a
// guest can say anything.
type Socket struct{ file *os.File }

// OpenSocket opens a socket on a link, which hears what comes before any filter.
func OpenSocket(space *pod.Space, link string) (*Socket, error) {
	return OpenSocketOf(space, link, unix.ETH_P_ALL)
}

// OpenSocketOf opens a socket for one type of frame, which hears what filters have left.
func OpenSocketOf(space *pod.Space, link string, etherType uint16) (*Socket, error) {
	var s Socket
	err := space.Do(func() error {
		ifi, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		protocol := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, etherType))
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: ifi.Index}),
		)
		if err != nil {
			unix.Close(fd)
			return err
		}
		s.file = os.NewFile(uintptr(fd), link)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("opening a socket on %q of %q: %w", link, space.Name(), err)
	}
	return &s, nil
}

// Send sends a frame.
func (s *Socket) Send(frame []byte) error {
	_, err := s.file.Write(frame)
	return err
}

// Hear returns the next frame that is wanted, or an error when
// the time is up.
func (s *Socket) Hear(within time.Duration, wanted func(frame []byte) bool) ([]byte, error) {
	if err := s.file.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	buf := make([]byte, maxFrame)
	for {
		n, err := s.file.Read(buf)
		if errors.Is(err, unix.ENETDOWN) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if wanted(buf[:n]) {
			return buf[:n], nil
		}
	}
}

// Close closes the socket. A Hear that waits ends.
func (s *Socket) Close() error { return s.file.Close() }
