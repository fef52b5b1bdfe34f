package dnsforward

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/podwire/podwire/internal/survive"
)

// serveTCP accepts connections until the listener is closed. Other errors pass: what is
// missing most likely is a file descriptor.
func (r *Relay) serveTCP(ctx context.Context, listener net.Listener, running *sync.WaitGroup) error {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			if conn != nil {
				_ = conn.Close()
			}
			return fmt.Errorf("accepting DNS connections: %w", errors.Join(err, ctx.Err()))
		}
		if err != nil {
			r.log.Debug("a DNS connection could not be accepted", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(r.pause):
			}
			continue
		}
		if !r.answers(conn.RemoteAddr()) || !take(r.connSlots) {
			r.counts.add(dropped)
			_ = conn.Close()
			continue
		}
		survive.Go(running, r.Panicked(nil), func() {
			defer func() { <-r.connSlots }()
			r.serveConn(ctx, conn)
		})
	}
}

// serveConn answers the questions of one connection, each as soon as it can
// (RFC 7766 §6.2.1.1), until the client has no more or has said nothing for too
// long. What it has asked by then is still answered.
func (r *Relay) serveConn(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer survive.AfterFunc(ctx, r.Panicked(nil), func() { _ = conn.Close() })()
	var (
		running sync.WaitGroup
		writing sync.Mutex
	)
	defer running.Wait()
	for {
		_ = conn.SetReadDeadline(time.Now().Add(r.idle))
		message, err := readMessage(conn)
		if err != nil {
			return
		}
		r.counts.add(overTCP)
		select {
		case r.tcpSlots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		survive.Go(&running, r.Panicked(message), func() {
			defer func() { <-r.tcpSlots }()
			answer := r.answer(ctx, message, false)
			if answer == nil {
				return
			}
			writing.Lock()
			defer writing.Unlock()
			_ = conn.SetWriteDeadline(time.Now().Add(r.idle))
			if writeMessage(conn, answer) != nil {
				_ = conn.Close() // half of an answer may be out
			}
		})
	}
}

// askTCP asks over a connection of its own. An upstream that has no TCP is asked
// over UDP: most answers fit.
func (r *Relay) askTCP(ctx context.Context, upstream netip.AddrPort, q question) ([]byte, error) {
	answer, err := r.stream(ctx, upstream, q)
	if err == nil || ctx.Err() != nil {
		return answer, err
	}
	answer, udpErr := r.askUDP(ctx, upstream, q)
	if udpErr == nil && truncated(answer) {
		udpErr = errTruncated
	}
	if udpErr != nil {
		return nil, errors.Join(err, udpErr)
	}
	return answer, nil
}

// stream is the part of askTCP that is TCP.
func (r *Relay) stream(ctx context.Context, upstream netip.AddrPort, q question) ([]byte, error) {
	dialing, cancel := context.WithTimeout(ctx, r.patience)
	conn, err := r.dial(dialing, "tcp", upstream.String())
	cancel()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer survive.AfterFunc(ctx, r.Panicked(nil), func() { _ = conn.Close() })()

	id, message := newID(), bytes.Clone(q.message)
	binary.BigEndian.PutUint16(message, id)
	if err := writeMessage(conn, message); err != nil {
		return nil, err
	}
	answer, err := readMessage(conn)
	if err != nil {
		return nil, err
	}
	if !q.answeredBy(id, answer) {
		return nil, errNotAnswer
	}
	binary.BigEndian.PutUint16(answer, q.header.ID)
	return answer, nil
}

// readMessage reads a message with its length before it (RFC 1035 §4.2.2).
func readMessage(conn io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, message); err != nil {
		return nil, err
	}
	return message, nil
}

// writeMessage writes length and message at once (RFC 7766 §8).
func writeMessage(conn io.Writer, message []byte) error {
	out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(message)), uint16(len(message)))
	_, err := conn.Write(append(out, message...))
	return err
}
