package dnsforward

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/podwire/podwire/internal/survive"
)

// serveUDP answers on one socket until it fails or is closed.
func (r *Relay) serveUDP(ctx context.Context, conn net.PacketConn, running *sync.WaitGroup) error {
	buf := make([]byte, maxDatagram+1)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return fmt.Errorf("reading DNS questions: %w", err)
		}
		r.counts.add(overUDP)
		if n > maxDatagram || !r.answers(from) || !take(r.udpSlots) {
			r.counts.add(dropped)
			continue
		}
		message := bytes.Clone(buf[:n])
		survive.Go(running, r.Panicked(message), func() {
			defer func() { <-r.udpSlots }()
			answer := r.answer(ctx, message, true)
			if answer == nil {
				return
			}
			if _, err := conn.WriteTo(answer, from); err != nil && ctx.Err() == nil {
				r.log.Debug("a DNS answer could not be sent", "addr", from.String(), "err", err)
			}
		})
	}
}

// take takes a slot if there is one left.
func take(slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// askUDP asks over a socket of its own, so that neither its port nor its id can be
// guessed (RFC 5452 §9.2), and which hears its upstream alone.
func (r *Relay) askUDP(ctx context.Context, upstream netip.AddrPort, q question) ([]byte, error) {
	conn, err := r.dial(ctx, "udp", upstream.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer survive.AfterFunc(ctx, r.Panicked(nil), func() { _ = conn.Close() })()

	id, message := newID(), bytes.Clone(q.message)
	binary.BigEndian.PutUint16(message, id)
	if _, err := conn.Write(message); err != nil {
		return nil, err
	}
	buf := make([]byte, maxDatagram+1)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if !q.answeredBy(id, buf[:n]) {
			continue // forged, or late from somebody who had the port before
		}
		answer := q.fit(buf[:n], maxDatagram) // of one that fills buf the rest is lost
		binary.BigEndian.PutUint16(answer, q.header.ID)
		return answer, nil
	}
}
