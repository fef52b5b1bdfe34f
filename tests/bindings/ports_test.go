package bindings

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/pod"
)

// TestPortsAndSources: with masquerade, --port says what goes to the guest, and
// --exclude-from who reaches the pod all the same. Both listen on the same port.
func TestPortsAndSources(t *testing.T) {
	t.Parallel()
	i := slices.IndexFunc(bindings, func(b binding) bool { return b.name == "masquerade" })
	b := bindings[i]
	b.flags = []string{"--port", strconv.Itoa(port) + "/tcp," + strconv.Itoa(httpPort) + "/tcp"}
	w := newWorld(t, b, time.Minute)
	for _, a := range w.other.Addrs {
		b.flags = append(b.flags, "--exclude-from", a.Addr().String())
	}
	w.binding = b
	if err := errors.Join(w.serve(w.vm.Space, port), w.begin()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		from *pod.Space
		at   int
		want string
	}{
		{w.far.Space, port, "guest"},
		{w.node.Space, port, "guest"},
		{w.guest.Space, port, "guest"},
		{w.far.Space, sidecarPort, "vm-0"}, // which is no --port
		{w.other.Space, port, "vm-0"},      // of a --exclude-from
		{w.other.Space, sidecarPort, "vm-0"},
	} {
		err := both(func(like netip.Addr) error {
			name, _, err := w.who(test.from, netip.AddrPortFrom(w.own(like), uint16(test.at)), callTime)
			if err == nil && name != test.want {
				err = fmt.Errorf("it is %s", name)
			}
			return err
		})
		if err != nil {
			t.Errorf("port %d of the pod from %s, which is to be %s: %v", test.at, test.from.Name(), test.want, err)
		}
	}
	// UDP has the same port, and no --port: the pod answers it, and the guest sends.
	if err := both(func(like netip.Addr) error {
		return errors.Join(
			w.echoUDP(w.far.Space, netip.AddrPortFrom(w.own(like), port), 100),
			w.echoUDP(w.guest.Space, netip.AddrPortFrom(pod.OfFamily(like, far4, far6), port), 100),
		)
	}); err != nil {
		t.Error(err)
	}
	if err := w.end(); err != nil {
		t.Error(err)
	}
}
