package local

import (
	"testing"
	"time"

	"github.com/podwire/podwire/tests/world"
)

// TestMacvtapIsFollowed changes the network of a pod interface that is the hypervisor's own.
// What comes of it with the other bindings, tests/reliability/follow tests.
func TestMacvtapIsFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "bridge", time.Minute)
	w.attachMacvtap(t)
	w.Wire(t, "--interface", "net1")
	t.Cleanup(func() {
		w.Afresh(t)
		w.Podwire(t, "teardown")
	})
	for _, line := range []string{"link set net1 mtu 1400", "address del " + tapped.String() + " dev net1", "address add 192.168.77.9/24 dev net1"} {
		if err := w.VM.IP(w.Ctx, "%s", line); err != nil {
			t.Fatal(err)
		}
	}
	w.Eventually(t, "tells the guest", func() string {
		log, err := w.VM.ReadFile("/run/podwire/serve.log")
		if err != nil {
			return err.Error()
		}
		return world.Without(string(log), "192.168.77.9/24")
	})
	w.Podwire(t, "setup")
	if drift := w.Status(t)[0].Drift; len(drift) > 0 {
		t.Errorf("after podwire setup, status names %q", drift)
	}
}
