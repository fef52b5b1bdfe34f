//go:build linux

package kernel

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// virtioHeader is struct virtio_net_hdr, which goes before each frame of a tap
// with IFF_VNET_HDR.
const virtioHeader = 10

// served is a tap with a guest at its end and the server's socket on it.
type served struct {
	*pod
	guest int
	tap   *TapConn
}

func newServed(t *testing.T, accept ...plan.Match) *served {
	t.Helper()
	p := newPod(t, nil)
	p.do(t, plan.CreateTap{Name: "tap-eth0", MAC: tapMAC, MTU: 1450, Queues: 1})
	s := &served{pod: p, guest: p.guest(t, "tap-eth0")}
	p.Up(t, "tap-eth0")
	var err error
	if s.tap, err = p.k.OpenTap("tap-eth0", accept); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.tap.Close() })
	return s
}

// send sends a frame as the guest does.
func (s *served) send(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := unix.Write(s.guest, append(make([]byte, virtioHeader), frame...)); err != nil {
		t.Fatal(err)
	}
}

// read reads one frame as the server does.
func (s *served) read(t *testing.T) []byte {
	t.Helper()
	if err := s.tap.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	n, err := s.tap.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestTapConnHearsWhatItAcceptsAndNothingElse(t *testing.T) {
	t.Parallel()
	s := newServed(t, podMatches...)
	last := ether(0x0800, udp(9999, 67, 0, 0))
	for _, f := range frames {
		s.send(t, f.frame)
	}
	s.send(t, last)
	for _, f := range frames {
		if !f.match {
			continue
		}
		if got := s.read(t); !bytes.Equal(got, heard(f.frame)) {
			t.Errorf("%s: heard %x, want %x", f.name, got, heard(f.frame))
		}
	}
	if got := s.read(t); !bytes.Equal(got, last) {
		t.Errorf("heard %x at the end", got)
	}
}

// The server's socket is first: a filter on the same tap drops the frame after it.
func TestTapConnHearsWhatAFilterDrops(t *testing.T) {
	t.Parallel()
	for name, opts := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServed(t, podMatches...)
			k := open(t, s.Path, opts...)
			if err := k.Do(t.Context(), plan.AddFilter{Link: "tap-eth0", Name: "guest", Drop: podMatches}); err != nil {
				t.Fatal(err)
			}
			request := ether(0x0800, udp(68, 67, 0, 0))
			s.send(t, request)
			if got := s.read(t); !bytes.Equal(got, request) {
				t.Errorf("heard %x", got)
			}
		})
	}
}

func TestTapConnWritesWholeFramesToTheGuestAndHearsNoneOfThem(t *testing.T) {
	t.Parallel()
	s := newServed(t, plan.Match{Kind: plan.MatchAll})
	answer := ether(0x0800, udp(67, 68, 0, 0))
	if n, err := s.tap.Write(answer); err != nil || n != len(answer) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	buf := make([]byte, 2048)
	for {
		n, err := unix.Read(s.guest, buf)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(buf[virtioHeader:n], answer) {
			break
		}
	}
	s.send(t, marker(1))
	if got := s.read(t); !bytes.Equal(got, marker(1)) {
		t.Errorf("heard %x", got)
	}
}

// A machine that is reset takes its tap down and up again.
func TestTapConnOutlivesALinkThatGoesDown(t *testing.T) {
	t.Parallel()
	s := newServed(t, podMatches...)
	request := ether(0x0800, udp(68, 67, 0, 0))
	for range 3 {
		heard := make(chan []byte)
		go func() {
			buf := make([]byte, 2048)
			n, err := s.tap.Read(buf)
			if err != nil {
				t.Error(err)
			}
			heard <- buf[:n]
		}()
		s.Down(t, "tap-eth0")
		if _, err := s.tap.Write(request); !errors.Is(err, unix.ENETDOWN) {
			t.Errorf("writing to a tap that is down: %v", err)
		}
		until(t, "the reader to see that it is down", func() bool { return s.tap.isDown() })
		s.Up(t, "tap-eth0")
		s.send(t, request)
		if got := <-heard; !bytes.Equal(got, request) {
			t.Errorf("heard %x", got)
		}
	}
	until(t, "the reader to see that it is up", func() bool {
		s.send(t, request)
		s.read(t)
		return !s.tap.isDown()
	})
}

func (c *TapConn) isDown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.down
}

func TestTapConnCanBeOpenedOnALinkThatIsDown(t *testing.T) {
	t.Parallel()
	s := newServed(t, podMatches...)
	s.Down(t, "tap-eth0")
	var err error
	if s.tap, err = s.k.OpenTap("tap-eth0", podMatches); err != nil {
		t.Fatal(err)
	}
	defer s.tap.Close()
	s.Up(t, "tap-eth0")
	request := ether(0x0800, udp(68, 67, 0, 0))
	s.send(t, request)
	if got := s.read(t); !bytes.Equal(got, request) {
		t.Errorf("heard %x", got)
	}
}

func TestTapConnEndsWithItsLink(t *testing.T) {
	t.Parallel()
	for name, wasDown := range map[string]bool{"up": false, "down": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServed(t, podMatches...)
			ended := make(chan error)
			go func() {
				_, err := s.tap.Read(make([]byte, 2048))
				ended <- err
			}()
			if wasDown {
				s.Down(t, "tap-eth0")
				until(t, "the reader to see that it is down", func() bool { return s.tap.isDown() })
			}
			s.Delete(t, "tap-eth0")
			if err := <-ended; !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("reading from a tap that is gone: %v", err)
			}
			if _, err := s.tap.Write(marker(1)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("writing to a tap that is gone: %v", err)
			}
			if _, err := s.k.OpenTap("tap-eth0", podMatches); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("opening a tap that is gone: %v", err)
			}
		})
	}
}

func TestTapConnCloseEndsARead(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]bool{"up": false, "down": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServed(t, podMatches...)
			if down {
				s.Down(t, "tap-eth0")
			}
			ended := make(chan error)
			go func() {
				_, err := s.tap.Read(make([]byte, 2048))
				ended <- err
			}()
			if down {
				until(t, "the reader to see that it is down", func() bool { return s.tap.isDown() })
			}
			if err := s.tap.Close(); err != nil {
				t.Error(err)
			}
			if err := <-ended; !errors.Is(err, os.ErrClosed) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTapConnKeepsItsDeadline(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]bool{"up": false, "down": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServed(t, podMatches...)
			if down {
				s.Down(t, "tap-eth0")
			}
			// Longer than a link that is down is left alone.
			within := downPoll + downPoll/2
			start := time.Now()
			if err := s.tap.SetReadDeadline(start.Add(within)); err != nil {
				t.Fatal(err)
			}
			_, err := s.tap.Read(make([]byte, 2048))
			if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) < within {
				t.Errorf("after %s: %v", time.Since(start), err)
			}
			if err := s.tap.SetReadDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error)
			go func() {
				_, err := s.tap.Read(make([]byte, 2048))
				ended <- err
			}()
			if err := s.tap.SetReadDeadline(time.Now()); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a deadline set under a reader: %v", err)
			}
		})
	}
}

func TestTapConnWithAMatchThatIsUnknown(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	if _, err := p.k.OpenTap("eth0", []plan.Match{{Kind: "unheard-of"}}); err == nil {
		t.Error("opened")
	}
}

// What a link's own socket sends goes by the filters of what the link sends, and
// what a tap's sends does not.
func TestLinkSocketGoesByTheQueue(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	drop := []plan.Match{{Kind: plan.MatchFrom, MAC: serverMAC}}
	p.do(t, plan.Redirect{Link: "eth0", Name: "redirect", Match: drop, Egress: true, To: "lo"})
	far := packetEnd(t, p.node, "veth0")
	frame := sourced(marker(4), serverMAC)
	for name, c := range map[string]struct {
		open   func(string, []plan.Match) (*TapConn, error)
		passes bool
	}{"tap": {p.k.OpenTap, true}, "link": {p.k.OpenLink, false}} {
		socket, err := c.open("eth0", drop)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{frame, marker(1)} {
			if _, err := socket.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		socket.Close()
		got := far.next(t, func(b []byte) bool { return bytes.Equal(b, frame) || bytes.Equal(b, marker(1)) })
		if passed := bytes.Equal(got, frame); passed != c.passes {
			t.Errorf("%s: the frame passed: %v", name, passed)
		}
		if c.passes {
			far.next(t, func(b []byte) bool { return bytes.Equal(b, marker(1)) })
		}
	}
	if _, err := p.k.OpenLink("eth9", drop); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening a link that is not there: %v", err)
	}
}
