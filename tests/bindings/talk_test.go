package bindings

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/podwire/podwire/tests/pod"
)

const (
	port        = 8080 // where each space listens, and the guest
	httpPort    = 8081 // of the guest's readiness
	sidecarPort = 9000 // of the process beside the guest
	servicePort = 80
)

// callTime bounds one connection that is to work, and shortTime one that may not. A
// lost segment costs TCP a second.
const (
	callTime  = 5 * time.Second
	shortTime = 700 * time.Millisecond
)

// serve has a space answer on a port, of both families, by TCP and UDP: see converse.
// Datagrams are sent back.
func (w *world) serve(s *pod.Space, port int) error {
	var l net.Listener
	var udp net.PacketConn
	err := s.Do(func() (err error) {
		at := ":" + strconv.Itoa(port)
		if l, err = net.Listen("tcp", at); err == nil {
			udp, err = net.ListenPacket("udp", at)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("listening in %q: %w", s.Name(), err)
	}
	context.AfterFunc(w.ctx, func() { l.Close(); udp.Close() })
	go accept(l, func(conn net.Conn) { converse(s.Name(), conn) })
	go func() {
		in := make([]byte, 1<<16)
		for {
			n, from, err := udp.ReadFrom(in)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = udp.WriteTo(in[:n], from)
			}
		}
	}()
	return nil
}

func accept(l net.Listener, do func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed
		}
		go do(conn)
	}
}

// serveHTTP has a space say on httpPort that it is ready.
func (w *world) serveHTTP(s *pod.Space) error {
	var l net.Listener
	err := s.Do(func() (err error) {
		l, err = net.Listen("tcp", ":"+strconv.Itoa(httpPort))
		return err
	})
	if err != nil {
		return err
	}
	context.AfterFunc(w.ctx, func() { l.Close() })
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/ready" {
				http.NotFound(w, r)
			}
		}))
	}()
	return nil
}

// converse does what the lines of a connection ask:
//
//	who     says who listens, and from which address the connection came
//	echo X  says it again
//	take N  reads N octets of the stream and says whether they were right
//	give N  sends N octets of the stream
//	drop N  reads N octets, of whatever
func converse(name string, conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 1<<16)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.ParseInt(rest, 10, 64)
		switch word {
		case "who":
			peer := netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr().Unmap().WithZone("")
			fmt.Fprintf(conn, "%s %s\n", name, peer)
		case "echo":
			fmt.Fprintf(conn, "%s\n", rest)
		case "take":
			said := "right"
			if err := verify(r, n); err != nil {
				said = err.Error()
			}
			fmt.Fprintf(conn, "%s\n", said)
		case "drop":
			if _, err := io.CopyN(io.Discard, r, n); err != nil {
				return
			}
			fmt.Fprintln(conn, "dropped")
		case "give":
			if _, err := io.Copy(conn, stream(n)); err != nil {
				return
			}
		}
	}
}

// block is the stream's content, again and again. Its length is odd, so that what is
// moved by a frame's worth is wrong.
var block = func() []byte {
	b := make([]byte, 1<<20-3)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

type blocks struct{ at int }

func (b *blocks) Read(p []byte) (int, error) {
	n := copy(p, block[b.at:])
	b.at = (b.at + n) % len(block)
	return n, nil
}

func stream(n int64) io.Reader { return io.LimitReader(&blocks{}, n) }

// verify compares what arrives with the stream.
func verify(r io.Reader, n int64) error {
	in := make([]byte, 1<<18)
	at := 0
	for read := int64(0); read < n; {
		k, err := r.Read(in[:min(int64(len(in)), n-read)])
		for got := in[:k]; len(got) > 0; {
			want := block[at:min(at+len(got), len(block))]
			if !bytes.Equal(got[:len(want)], want) {
				return fmt.Errorf("wrong within %d octets of %d", k, read)
			}
			at, got = (at+len(want))%len(block), got[len(want):]
		}
		if read += int64(k); err != nil && read < n {
			return fmt.Errorf("after %d of %d octets: %w", read, n, err)
		}
	}
	return nil
}

// talk is a connection to where converse is.
type talk struct {
	net.Conn
	r *bufio.Reader
}

// dial connects from a space. The connection ends at the end of its time, or when it
// is closed.
func (w *world) dial(from *pod.Space, to netip.AddrPort, limit time.Duration) (*talk, error) {
	ctx, cancel := context.WithTimeout(w.ctx, limit)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	t := &talk{Conn: conn, r: bufio.NewReaderSize(conn, 1<<16)}
	return t, conn.SetDeadline(time.Now().Add(limit))
}

// ask says a line and returns the answer.
func (t *talk) ask(line string) (string, error) {
	if _, err := fmt.Fprintln(t, line); err != nil {
		return "", err
	}
	answer, err := t.r.ReadString('\n')
	return strings.TrimSpace(answer), err
}

// goesOn asks for an echo within a time.
func (t *talk) goesOn(limit time.Duration) error {
	if err := t.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	word := strconv.FormatUint(rand.Uint64(), 36)
	answer, err := t.ask("echo " + word)
	if err == nil && answer != word {
		err = fmt.Errorf("the answer to %q is %q", word, answer)
	}
	return err
}

// send sends octets of the stream, which the other end has to call right.
func (t *talk) send(n int64) error {
	if _, err := fmt.Fprintf(t, "take %d\n", n); err != nil {
		return err
	}
	if _, err := io.Copy(t.Conn, stream(n)); err != nil {
		return err
	}
	answer, err := t.r.ReadString('\n')
	if err == nil && answer != "right\n" {
		err = fmt.Errorf("the other end says: %s", strings.TrimSpace(answer))
	}
	return err
}

// receive gets octets of the stream, and compares them.
func (t *talk) receive(n int64) error {
	if _, err := fmt.Fprintf(t, "give %d\n", n); err != nil {
		return err
	}
	return verify(t.r, n)
}

// who connects from a space and returns who answers, and which address that saw.
func (w *world) who(from *pod.Space, to netip.AddrPort, limit time.Duration) (name string, seen netip.Addr, err error) {
	t, err := w.dial(from, to, limit)
	if err != nil {
		return "", seen, err
	}
	defer t.Close()
	answer, err := t.ask("who")
	if err != nil {
		return "", seen, err
	}
	name, addr, _ := strings.Cut(answer, " ")
	seen, err = netip.ParseAddr(addr)
	return name, seen, err
}
