package netstate

import (
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"testing"
)

func TestMAC(t *testing.T) {
	for _, bad := range []string{"", "x", "02:00:00:00:00", "02:00:00:00:00:00:00:01"} {
		if m, err := ParseMAC(bad); err == nil {
			t.Errorf("%q was taken as %v", bad, m)
		}
	}
	m, err := ParseMAC("0A-58-0A-F4-01-07")
	if err != nil || m.String() != "0a:58:0a:f4:01:07" || !m.IsUnicast() {
		t.Errorf("%v, %v", m, err)
	}
	if (MAC{1}).IsUnicast() || (MAC{}).IsUnicast() || (MAC{}).String() != "" {
		t.Error("group and zero addresses are no host's")
	}
}

func TestMACInJSON(t *testing.T) {
	for _, want := range []MAC{{}, {2, 0, 0, 0, 0, 1}} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got MAC
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Errorf("%s came back as %v (%v)", text, got, err)
		}
	}
	var m MAC
	if err := json.Unmarshal([]byte(`"zz"`), &m); err == nil {
		t.Error("zz was taken")
	}
}

func TestDerivedMACsAreLocalUnicastAndApart(t *testing.T) {
	m := MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x07}
	seen := map[MAC]bool{m: true}
	for _, purpose := range []string{"tap", "bridge", "port", "server"} {
		d := m.Derive(purpose)
		if seen[d] || !d.IsUnicast() || d[0]&2 == 0 || d != m.Derive(purpose) {
			t.Errorf("%s: %v", purpose, d)
		}
		seen[d] = true
	}
}

func TestIdentity(t *testing.T) {
	a := Identity{Cookie: 7, Inode: 100, BootID: "x"}
	tests := []struct {
		name string
		b    Identity
		want bool
	}{
		{"itself", a, true},
		{"the cookie decides", Identity{Cookie: 7, Inode: 101, BootID: "x"}, true},
		{"an inode that was used again", Identity{Cookie: 8, Inode: 100, BootID: "x"}, false},
		{"a kernel without cookies", Identity{Inode: 100, BootID: "x"}, true},
		{"another boot", Identity{Cookie: 7, Inode: 100, BootID: "y"}, false},
	}
	for _, tt := range tests {
		if got := a.Same(tt.b); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestSnapshotLookups(t *testing.T) {
	s := Snapshot{
		Links: []Link{{Index: 2, Name: "eth0"}, {Index: 3, Name: "net1"}},
		Addrs: []Addr{{Link: 3}, {Link: 2, Prefix: netip.MustParsePrefix("10.0.0.7/24")}},
		Routes: []Route{
			{Link: 2, Dst: netip.MustParsePrefix("0.0.0.0/0")},
			{Dst: netip.MustParsePrefix("10.0.0.0/8"), NextHops: []NextHop{{Link: 9}, {Link: 2}}},
			{Link: 3, Dst: netip.MustParsePrefix("10.3.0.0/16")},
		},
		Neighbors: []Neighbor{{Link: 2, State: NeighborPermanent}},
		Filters:   []Filter{{Link: 2, Name: "pod"}},
	}
	if l, ok := s.LinkByName("eth0"); !ok || l.Index != 2 {
		t.Error("LinkByName")
	}
	if _, ok := s.LinkByIndex(7); ok {
		t.Error("LinkByIndex found what is not there")
	}
	if got := s.RoutesOf(2); len(got) != 2 || !got[0].Default() {
		t.Errorf("RoutesOf = %v", got)
	}
	if len(s.AddrsOf(2)) != 1 || len(s.NeighborsOf(2)) != 1 || !s.NeighborsOf(2)[0].Permanent() {
		t.Error("AddrsOf, NeighborsOf")
	}
	if !s.HasFilter(2, "pod") || s.HasFilter(3, "pod") || s.HasFilter(2, "guest") {
		t.Error("HasFilter")
	}
}

func metrics(attrs ...uint32) Attr {
	var b []byte
	for i := 0; i < len(attrs); i += 2 {
		b = binary.NativeEndian.AppendUint16(b, 8)
		b = binary.NativeEndian.AppendUint16(b, uint16(attrs[i]))
		b = binary.NativeEndian.AppendUint32(b, attrs[i+1])
	}
	return Attr{Type: attrMetrics, Data: b}
}

func TestRouteMTU(t *testing.T) {
	tests := []struct {
		name  string
		attrs []Attr
		want  int
	}{
		{"none", nil, 0},
		{"alone", []Attr{metrics(metricMTU, 1400)}, 1400},
		{"behind another metric", []Attr{{Type: 20}, metrics(8, 1360, metricMTU, 1400)}, 1400},
		{"other metrics", []Attr{metrics(8, 1360)}, 0},
		{"nonsense", []Attr{{Type: attrMetrics, Data: []byte{0, 0, 0, 0, 0, 0, 0, 0, 1}}}, 0},
	}
	for _, tt := range tests {
		if got := (Route{Attrs: tt.attrs}).MTU(); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
