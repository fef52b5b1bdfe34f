package local

import (
	"testing"
	"time"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// testWorld is the world with what the tests of this package do in it.
type testWorld struct{ *world.World }

// newWorld makes the world, whose binding is bridge, and has the test end within the given
// time.
func newWorld(t *testing.T, name string, limit time.Duration) *testWorld {
	t.Helper()
	return newWorldOf(t, world.Shapes[name], world.ResolvConf, limit)
}

func newWorldOf(t *testing.T, newPod world.Shape, resolvConf string, limit time.Duration) *testWorld {
	t.Helper()
	return &testWorld{world.New(t, newPod, resolvConf, limit)}
}

// with has podwire use a binding.
func (w *testWorld) with(b pod.Binding) *testWorld {
	w.With(b)
	return w
}

// serverOnPodNetwork starts a DHCP server in the other pod, which would give any
// guest that it hears an address. It returns what the server has logged so far.
func (w *testWorld) serverOnPodNetwork(t *testing.T) func() string {
	t.Helper()
	return world.Daemon(t, w.Other.Space, "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--user=root", "--conf-file=/dev/null",
		"--port=0", "--no-ping", "--leasefile-ro", "--dhcp-authoritative", "--interface=eth0", "--dhcp-range=10.244.1.100,10.244.1.200")
}
