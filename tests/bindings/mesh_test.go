package bindings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/podwire/podwire/tests/pod"
)

// The ports on which a mesh's proxy takes what goes out and what comes in, which are
// Istio's.
const (
	meshOut = 15001
	meshIn  = 15006
)

// mesh has a proxy in the pod take the guest's connections on their way, in and out, by
// rules such as Istio's (those of the tap are what istio.io/reroute-virtual-interfaces
// adds): what the proxy sends on to the guest comes from 127.0.0.6.
func (w *world) mesh() error {
	rules := fmt.Sprintf(`table ip mesh { chain prerouting { type nat hook prerouting priority dstnat;
	iifname "eth0" tcp dport %d redirect to :%d
	iifname "%s" tcp dport %d redirect to :%d
}; }`, port, meshIn, w.to.Tap, port, meshOut)
	in := netip.AddrPortFrom(w.own(far4), port)
	out := netip.AddrPortFrom(far4, port)
	tookIn, endIn, err := w.proxy(w.vm.Space, meshIn, netip.MustParseAddr("127.0.0.6"), in)
	if err != nil {
		return err
	}
	defer endIn()
	tookOut, endOut, err := w.proxy(w.vm.Space, meshOut, netip.IPv4Unspecified(), out)
	if err != nil {
		return err
	}
	defer endOut()
	if err := nft(w.ctx, w.vm.Space, rules); err != nil {
		return err
	}
	name, seen, errIn := w.who(w.far.Space, in, callTime)
	if errIn == nil && (name != "guest" || tookIn.Load() != 1) {
		errIn = fmt.Errorf("%s was reached from %s, and the proxy took %d connections", name, seen, tookIn.Load())
	}
	name, seen, errOut := w.who(w.guest.Space, out, callTime)
	if errOut == nil && (name != "far-0" || seen != w.own(far4) || tookOut.Load() != 1) {
		errOut = fmt.Errorf("the guest reached %s, which was called by %s, and the proxy took %d connections", name, seen, tookOut.Load())
	}
	return errors.Join(errIn, errOut, nft(w.ctx, w.vm.Space, "delete table ip mesh"))
}

// proxy hands connections to a port on to elsewhere, from an address of the space's, and
// counts them.
func (w *world) proxy(s *pod.Space, at int, from netip.Addr, to netip.AddrPort) (took *atomic.Int64, end func(), err error) {
	var l net.Listener
	err = s.Do(func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf(":%d", at))
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	took = new(atomic.Int64)
	go accept(l, func(conn net.Conn) {
		defer conn.Close()
		took.Add(1)
		ctx, cancel := context.WithTimeout(w.ctx, callTime)
		defer cancel()
		var on net.Conn
		err := s.Do(func() (err error) {
			on, err = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}).DialContext(ctx, "tcp4", to.String())
			return err
		})
		if err != nil {
			return // the caller hears of it
		}
		defer on.Close()
		go func() {
			_, _ = io.Copy(on, conn)
			on.Close()
		}()
		_, _ = io.Copy(conn, on)
	})
	return took, func() { l.Close() }, nil
}
