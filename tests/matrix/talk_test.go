package matrix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/podwire/podwire/tests/pod"
)

// port is where each space listens, and servicePort where the services do.
const (
	port        = 8080
	servicePort = 80
)

// bulk is what is sent each way: more than one frame on most links, so that an MTU that
// is wrong shows. It is less than the wire carries in one.
const bulk = 60000

// listen has a space answer each connection, once it has said all, with a line that
// says who it is and from where that came, and as much as it brought.
func (w *world) listen(s *pod.Space) error {
	var l net.Listener
	err := s.Do(func() (err error) {
		l, err = net.Listen("tcp", ":"+strconv.Itoa(port))
		return err
	})
	if err != nil {
		return fmt.Errorf("listening in %q: %w", s.Name(), err)
	}
	context.AfterFunc(w.ctx, func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go answer(conn, s.Name())
		}
	}()
	return nil
}

func answer(conn net.Conn, name string) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(callTime))
	n, err := io.Copy(io.Discard, conn)
	if err != nil {
		return // the caller hears of it
	}
	peer := netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr().Unmap().WithZone("")
	_, _ = fmt.Fprintf(conn, "%s %s\n%s", name, peer, strings.Repeat("-", int(n)))
}

// callTime bounds one connection. A lost segment costs TCP a second.
const callTime = 3 * time.Second

// answered is what the other end of a connection says.
type answered struct {
	by   string
	seen netip.Addr // that it was called from
}

// call connects from a space to where another listens.
func (w *world) call(from *pod.Space, to netip.AddrPort) (answered, error) {
	ctx, cancel := context.WithTimeout(w.ctx, callTime)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", to.String())
	if err != nil {
		return answered{}, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return answered{}, err
	}
	if _, err := conn.Write(make([]byte, bulk)); err != nil {
		return answered{}, err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return answered{}, err
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		return answered{}, err
	}
	line, rest, _ := strings.Cut(string(got), "\n")
	if len(rest) != bulk {
		return answered{}, fmt.Errorf("%d of %d octets came back", len(rest), bulk)
	}
	return parseAnswer(line)
}

func parseAnswer(line string) (a answered, err error) {
	by, seen, _ := strings.Cut(strings.TrimSpace(line), " ")
	a.by = by
	a.seen, err = netip.ParseAddr(seen)
	return a, err
}

// target is what a pod reaches.
type target struct {
	name string
	at   netip.AddrPort
}

// targets are what the VM's pod must reach; or a guest behind it, which has no link to the
// pod's gateway, and so not the gateway's link-local address.
func (w *world) targets(behind bool) []target {
	var out []target
	for i, own := range w.vm.Addrs {
		at := func(name string, addr netip.Addr, port uint16) {
			out = append(out, target{name, netip.AddrPortFrom(addr, port)})
		}
		name, gateway := w.gateway(own.Addr(), behind)
		at(name, gateway, port)
		at("a pod on the node", w.other.Addrs[i].Addr(), port)
		at("a pod behind a route", pod.OfFamily(own.Addr(), far4, far6), port)
		at("a service", pod.OfFamily(own.Addr(), service4, service6), servicePort)
	}
	return out
}

// gateway is the pod's gateway of the family of one of its addresses or, where that
// answers nothing, the node behind it.
func (w *world) gateway(own netip.Addr, behind bool) (string, netip.Addr) {
	for _, g := range w.vm.Gateways {
		if g.Is4() == own.Is4() && !w.layout.mute && !((g.Is4() || behind) && g.IsLinkLocalUnicast()) {
			return "the gateway", g
		}
	}
	return "the node", pod.OfFamily(own, pod.NodeOutside, pod.NodeOutside6)
}

// reaches checks that the pod or its guest reaches all that a pod does, as the pod; and is
// reached there.
func (w *world) reaches(from *pod.Space, link string) error {
	return errors.Join(w.calls(from, link), w.isReached(from.Name()))
}

// calls is the first half of reaches. The link is needed for a gateway's link-local
// address.
func (w *world) calls(from *pod.Space, link string) error {
	var errs []error
	for _, to := range w.targets(w.binding.Behind() && from.Name() == guestName) {
		at := to.at
		if at.Addr().Is6() && at.Addr().IsLinkLocalUnicast() {
			index, err := from.ReadFile("/sys/class/net/" + link + "/ifindex")
			if err != nil {
				return err
			}
			// By number: the names of another space's links may be remembered.
			at = netip.AddrPortFrom(at.Addr().WithZone(strings.TrimSpace(string(index))), at.Port())
		}
		got, err := w.call(from, at)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("reaching %s: %w", to.name, err))
		case !w.own(got.seen) && at.Addr().Zone() == "": // whose source is link-local as well
			errs = append(errs, fmt.Errorf("%s at %s was called by %s", to.name, at, got.seen))
		}
	}
	return errors.Join(errs...)
}

// isReached checks that who has the pod's place is reached by others at the pod's
// addresses, and sees theirs.
func (w *world) isReached(name string) error {
	var errs []error
	for _, peer := range []*pod.Pod{w.other, w.far} {
		for i, own := range w.vm.Addrs {
			got, err := w.call(peer.Space, netip.AddrPortFrom(own.Addr(), port))
			if err != nil {
				errs = append(errs, fmt.Errorf("being reached by %s: %w", peer.Name(), err))
			} else if want := (answered{name, peer.Addrs[i].Addr()}); got != want {
				errs = append(errs, fmt.Errorf("being reached by %s at %s: %s answers, called by %s", peer.Name(), own.Addr(), got.by, got.seen))
			}
		}
	}
	return errors.Join(errs...)
}

// own reports whether an address is one of the pod's.
func (w *world) own(addr netip.Addr) bool {
	return slices.ContainsFunc(w.vm.Addrs, func(p netip.Prefix) bool { return p.Addr() == addr })
}
