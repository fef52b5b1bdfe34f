package bindings

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/podwire/podwire/tests/pod"
)

// target is what a pod reaches.
type target struct {
	what, name string // name is that of the space that answers
	at         netip.AddrPort
}

// targets are what the VM's pod must reach, in a family.
func (w *world) targets(like netip.Addr) []target {
	at := func(a4, a6 netip.Addr, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(pod.OfFamily(like, a4, a6), port)
	}
	return []target{
		{"the gateway", "node", at(w.vm.Gateways[0], w.vm.Gateways[1], port)},
		{"a pod on the node", "web-0", at(w.other.Addrs[0].Addr(), w.other.Addrs[1].Addr(), port)},
		{"a pod behind a route", "far-0", at(far4, far6, port)},
		{"a service", "far-0", at(service4, service6, servicePort)},
	}
}

// reachesAll: whatever has the pod's place reaches all that the pod does, as the pod.
func (w *world) reachesAll(from *pod.Space, like netip.Addr) error {
	var errs []error
	for _, to := range w.targets(like) {
		name, seen, err := w.who(from, to.at, callTime)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("reaching %s: %w", to.what, err))
		case name != to.name || seen != w.own(like):
			errs = append(errs, fmt.Errorf("%s at %s is %s, and was called by %s", to.what, to.at, name, seen))
		}
	}
	return errors.Join(errs...)
}

// reachedByAll: by the pod's address, the node and other pods reach the guest, which
// sees who they are.
func (w *world) reachedByAll(like netip.Addr) error {
	to := netip.AddrPortFrom(w.own(like), port)
	var errs []error
	for _, from := range []struct {
		*pod.Space
		addr netip.Addr
	}{
		{w.node.Space, pod.OfFamily(like, w.vm.Gateways[0], w.vm.Gateways[1])},
		{w.other.Space, pod.OfFamily(like, w.other.Addrs[0].Addr(), w.other.Addrs[1].Addr())},
		{w.far.Space, pod.OfFamily(like, far4, far6)},
	} {
		name, seen, err := w.who(from.Space, to, callTime)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("being reached by %s: %w", from.Name(), err))
		case name != "guest" || seen != from.addr:
			errs = append(errs, fmt.Errorf("%s reached %s, as %s", from.Name(), name, seen))
		}
	}
	return errors.Join(errs...)
}

// both does something for each family, named by one of its addresses.
func both(do func(like netip.Addr) error) error { return errors.Join(do(far4), do(far6)) }

// probes are those of the kubelet: it opens a connection to the pod's address, or
// fetches a page.
func (w *world) probeTCP() error {
	return both(func(like netip.Addr) error {
		conn, err := w.dial(w.node.Space, netip.AddrPortFrom(w.own(like), httpPort), callTime)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func (w *world) probeHTTP() error {
	return both(func(like netip.Addr) error {
		client := http.Client{Transport: &http.Transport{DialContext: w.node.Dial, DisableKeepAlives: true}, Timeout: callTime}
		for path, want := range map[string]int{"/ready": http.StatusOK, "/other": http.StatusNotFound} {
			answer, err := client.Get("http://" + netip.AddrPortFrom(w.own(like), httpPort).String() + path)
			if err != nil {
				return err
			}
			answer.Body.Close()
			if answer.StatusCode != want {
				return fmt.Errorf("%s answers %s", path, answer.Status)
			}
		}
		return nil
	})
}

// portForward is what kubectl port-forward comes to: a connection to localhost in the
// pod.
func (w *world) portForward(localhost string) error {
	name, _, err := w.who(w.vm.Space, netip.AddrPortFrom(netip.MustParseAddr(localhost), port), shortTime)
	if err == nil && name != "guest" {
		err = fmt.Errorf("%s is %s", localhost, name)
	}
	return err
}

// relay is what works where port-forward does not: another pod goes to the pod's
// address.
func (w *world) relay() error {
	return both(func(like netip.Addr) error {
		name, _, err := w.who(w.other.Space, netip.AddrPortFrom(w.own(like), port), callTime)
		if err == nil && name != "guest" {
			err = fmt.Errorf("the pod's address is %s", name)
		}
		return err
	})
}

// sidecarDials: a process in the pod goes out, as itself.
func (w *world) sidecarDials() error {
	return both(func(like netip.Addr) error {
		for _, to := range w.targets(like) {
			name, seen, err := w.who(w.vm.Space, to.at, shortTime)
			if err != nil {
				return err
			}
			if name != to.name || seen != w.own(like) {
				return fmt.Errorf("%s is %s, and was called by %s", to.what, name, seen)
			}
		}
		return nil
	})
}

// sidecarListens: a process in the pod is reached, at its own port.
func (w *world) sidecarListens() error {
	return both(func(like netip.Addr) error {
		for _, from := range []*pod.Space{w.node.Space, w.other.Space, w.far.Space} {
			name, _, err := w.who(from, netip.AddrPortFrom(w.own(like), sidecarPort), shortTime)
			if err != nil {
				return err
			}
			if name != "vm-0" {
				return fmt.Errorf("port %d is %s", sidecarPort, name)
			}
		}
		return nil
	})
}

// otherSidecar is what works where the pod itself has no network: the process is in a
// pod of its own, and the guest and it reach each other.
func (w *world) otherSidecar() error {
	return errors.Join(w.relay(), both(func(like netip.Addr) error {
		_, _, err := w.who(w.guest.Space, w.targets(like)[1].at, callTime)
		return err
	}))
}

// hairpin: the guest goes to the pod's address, and so to itself.
func (w *world) hairpin() error {
	return both(func(like netip.Addr) error {
		name, _, err := w.who(w.guest.Space, netip.AddrPortFrom(w.own(like), port), callTime)
		if err == nil && name != "guest" {
			err = fmt.Errorf("the pod's address is %s", name)
		}
		return err
	})
}

// policy has the node drop by the pod's address, as a NetworkPolicy's agent does, first
// what goes to it and then what comes from it. Each counts that it did.
func (w *world) policy() error {
	return both(func(like netip.Addr) error {
		toGuest := func(limit time.Duration) error {
			_, _, err := w.who(w.far.Space, netip.AddrPortFrom(w.own(like), port), limit)
			return err
		}
		fromGuest := func(limit time.Duration) error {
			_, _, err := w.who(w.guest.Space, netip.AddrPortFrom(pod.OfFamily(like, far4, far6), port), limit)
			return err
		}
		return errors.Join(
			w.dropping(like, "daddr", toGuest, fromGuest),
			w.dropping(like, "saddr", fromGuest, toGuest),
		)
	})
}

// dropping: while the node drops new connections by one of the pod's addresses, one
// thing does not work, and the other does.
func (w *world) dropping(like netip.Addr, end string, stopped, goesOn func(time.Duration) error) error {
	rule := pod.OfFamily(like, "ip", "ip6") + " " + end + " " + w.own(like).String()
	err := nft(w.ctx, w.node.Space, "table inet agent { counter dropped { }; chain forward { type filter hook forward priority 0; "+
		"ct state established,related accept; "+rule+" counter name dropped drop; }; }")
	if err != nil {
		return err
	}
	var errs []error
	if stopped(shortTime) == nil {
		errs = append(errs, fmt.Errorf("while the node drops %s, it gets through", rule))
	}
	if n, err := w.node.Run(w.ctx, "nft", "list", "counter", "inet", "agent", "dropped"); err != nil || !counted.MatchString(n) {
		errs = append(errs, fmt.Errorf("the node dropped nothing by %s: %w\n%s", rule, err, n))
	}
	if err := goesOn(callTime); err != nil {
		errs = append(errs, fmt.Errorf("while the node drops %s, the other way: %w", rule, err))
	}
	errs = append(errs, nft(w.ctx, w.node.Space, "delete table inet agent"))
	if err := stopped(callTime); err != nil {
		errs = append(errs, fmt.Errorf("once the node drops nothing: %w", err))
	}
	return errors.Join(errs...)
}

// echoUDP sends a datagram from a space, and wants it back.
func (w *world) echoUDP(from *pod.Space, to netip.AddrPort, size int) error {
	conn, err := from.Dial(w.ctx, "udp", to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	var answer []byte
	for range 3 { // the first that is too large for the path may be lost, which tells its sender
		if _, err = conn.Write(block[:size]); err != nil {
			return fmt.Errorf("%d octets: %w", size, err)
		}
		if err = conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		answer = make([]byte, 1<<16)
		var n int
		if n, err = conn.Read(answer); err == nil {
			answer = answer[:n]
			break
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("%d octets to %s: %w", size, to, err)
	case string(answer) != string(block[:size]):
		return errors.New("what came back of " + strconv.Itoa(size) + " octets is something else")
	}
	return nil
}

// datagrams of all sizes, most of which are fragments on the way.
func (w *world) datagrams() error {
	return both(func(like netip.Addr) error {
		for _, size := range []int{1, 1300, 1500, 9000, 60000} {
			err := errors.Join(
				w.echoUDP(w.guest.Space, netip.AddrPortFrom(pod.OfFamily(like, far4, far6), port), size),
				w.echoUDP(w.guest.Space, netip.AddrPortFrom(pod.OfFamily(like, w.other.Addrs[0].Addr(), w.other.Addrs[1].Addr()), port), size),
				w.echoUDP(w.far.Space, netip.AddrPortFrom(w.own(like), port), size),
			)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// icmpErrors: who sends to a port that nobody listens on is told so, both ways.
func (w *world) icmpErrors() error {
	return both(func(like netip.Addr) error {
		return errors.Join(
			w.refused(w.guest.Space, netip.AddrPortFrom(pod.OfFamily(like, far4, far6), 9)),
			w.refused(w.far.Space, netip.AddrPortFrom(w.own(like), 9)),
		)
	})
}

// refused waits for "port unreachable".
func (w *world) refused(from *pod.Space, to netip.AddrPort) error {
	conn, err := from.Dial(w.ctx, "udp", to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	return w.eventually(callTime, func() error {
		if _, err := conn.Write([]byte("?")); isRefused(err) {
			return nil
		}
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err := conn.Read(make([]byte, 1))
		if isRefused(err) {
			return nil
		}
		return fmt.Errorf("%s hears of no refusal by %s: %w", from.Name(), to, err)
	})
}

func isRefused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Err.Error() != "" && errors.Is(err, errRefused)
}
