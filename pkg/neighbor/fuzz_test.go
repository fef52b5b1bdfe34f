package neighbor

import (
	"testing"

	"github.com/podwire/podwire/pkg/frame"
)

// FuzzHeard holds for whatever the pod's network says of its gateways, and for whatever
// the guest asks of them: no panic; no MAC changes but a stand-in's, and none to what is
// no station's.
func FuzzHeard(f *testing.F) {
	l := standIns()
	for _, m := range []frame.ICMP6{
		says(flagSolicited|flagOverride, far, append([]byte{2, 1}, movedMAC[:]...)...),
		says(flagOverride, far, append([]byte{14, 1, 1, 2, 3, 4, 5, 6, 2, 1}, movedMAC[:]...)...),
		says(flagOverride, far, 2, 0), says(flagOverride, far, 2, 255), says(flagSolicited, far),
	} {
		f.Add(frame.AppendICMP6(nil, m))
	}
	f.Add(Solicit(l, far))
	f.Add(Announce(l, l.Neighbors[0]))
	f.Add(Announce(l, l.Neighbors[1]))
	f.Fuzz(func(t *testing.T, b []byte) {
		changed, moved := Heard(l, b)
		if len(moved) == 0 {
			changed = l
		}
		if len(changed.Neighbors) != len(l.Neighbors) {
			t.Fatalf("%d neighbours", len(changed.Neighbors))
		}
		for i, n := range changed.Neighbors {
			was := l.Neighbors[i]
			if n.Addr != was.Addr || n.StandsFor != was.StandsFor || n.MAC != was.MAC && !was.StandsFor.IsValid() || !n.MAC.IsUnicast() {
				t.Errorf("%+v became %+v", was, n)
			}
		}
		for _, n := range moved {
			if len(Announce(changed, n)) == 0 {
				t.Errorf("%+v cannot be announced", n)
			}
		}
		if standIn, ok := AskedStandIn(l, b); ok && (!standIn.StandsFor.IsValid() || len(Solicit(l, standIn.StandsFor)) == 0) {
			t.Errorf("asked for %+v", standIn)
		}
	})
}
