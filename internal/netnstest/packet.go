//go:build linux

package netnstest

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Packet is a socket that sends and hears all frames of one link, those that
// leave it, too. It is the far end in tests of filters and servers.
type Packet struct {
	file *os.File
}

// Packet opens a socket on a link. It is closed with the test.
func (ns *NS) Packet(t testing.TB, link string) *Packet {
	t.Helper()
	index := ns.link(t, link).Attrs().Index
	var fd int
	var err error
	ns.Do(t, func() {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
		}
	})
	if err != nil {
		t.Fatalf("opening a packet socket on %q: %v", link, err)
	}
	p := &Packet{file: os.NewFile(uintptr(fd), link)}
	t.Cleanup(func() { p.file.Close() })
	return p
}

// Send sends one frame.
func (p *Packet) Send(t testing.TB, frame []byte) {
	t.Helper()
	if _, err := p.file.Write(frame); err != nil {
		t.Fatalf("sending a frame: %v", err)
	}
}

// TrySend sends one frame, if that goes: for a link that is taken down meanwhile,
// and for goroutines of a test's.
func (p *Packet) TrySend(frame []byte) error {
	_, err := p.file.Write(frame)
	return err
}

// Next returns the next frame that want takes, or nil if none comes within the
// time.
func (p *Packet) Next(t testing.TB, within time.Duration, want func(frame []byte) bool) []byte {
	t.Helper()
	if err := p.file.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	for {
		n, err := p.file.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			t.Fatalf("hearing a frame: %v", err)
		}
		if want(buf[:n]) {
			return append([]byte(nil), buf[:n]...)
		}
	}
}
