//go:build linux

package kernel

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

func TestMessageIsReadAsItWasWritten(t *testing.T) {
	m := newMessage(make([]byte, 4)).u8(1, 7).u16(2, 700).u32(3, 70000).str(4, "seven").
		addr(5, podIP).addr(6, netip.Addr{}).attr(7, guestMAC[:]).
		nest(8, func(m *message) { m.u32(9, 9) }).
		carried([]netstate.Attr{{Type: 10, Data: []byte{1, 2, 3}}})
	_, attrs, err := split(m.bytes(), 4)
	if err != nil {
		t.Fatal(err)
	}
	got := map[uint16]any{}
	for _, a := range attrs {
		switch a.kind {
		case 1:
			got[1] = a.u8()
		case 2:
			got[2] = a.u16()
		case 3:
			got[3] = a.u32()
		case 4:
			got[4] = a.text()
		case 5, 6:
			got[a.kind] = a.addr()
		case 7:
			got[7] = a.mac()
		case 8:
			got[8] = attributes(a.data)[0].u32()
		case 10:
			got[10] = a.carry().Data
		}
	}
	want := map[uint16]any{
		1: uint8(7), 2: uint16(700), 3: uint32(70000), 4: "seven", 5: podIP, 7: guestMAC, 8: uint32(9), 10: []byte{1, 2, 3},
	}
	if diff := cmp.Diff(want, got, asValues); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A kernel sends none of these; a damaged state file may hold them.
func TestAttributeThatIsTooShortIsNothing(t *testing.T) {
	a := attribute{data: []byte{}}
	if a.u8() != 0 || a.u16() != 0 || a.u32() != 0 || a.text() != "" || a.addr().IsValid() || !a.mac().IsZero() {
		t.Error("it is something")
	}
	for _, b := range [][]byte{{4}, {3, 0, 1, 0}, {200, 0, 1, 0}} {
		if got := attributes(b); len(got) > 0 {
			t.Errorf("%v holds %v", b, got)
		}
	}
	if _, _, err := split([]byte{1}, 4); err == nil {
		t.Error("a message without its fixed part was read")
	}
}

func TestIPv4AddressIsNeverInItsIPv6Form(t *testing.T) {
	mapped := netip.AddrFrom16(podIP.As16())
	if got := (attribute{data: mapped.AsSlice()}).addr(); got != podIP {
		t.Errorf("got %v", got)
	}
}

func TestNextHopsCarryNoStateOfTheirLinks(t *testing.T) {
	hop := func(flags byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, sizeofNexthop)
		b = append(b, flags, 2)
		return binary.NativeEndian.AppendUint32(b, 5)
	}
	dead := append(hop(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN|unix.RTNH_F_ONLINK), hop(0)...)
	want := append(hop(unix.RTNH_F_ONLINK), hop(0)...)
	if got := settledHops(dead); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	hops := []netstate.NextHop{{Link: 5, Weight: 3}, {Link: 5, Weight: 3}}
	if diff := cmp.Diff(hops, parseHops(want), asValues); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRoutesAreOneWhateverTheOrderOfTheirAttributes(t *testing.T) {
	a := netstate.Route{Attrs: []netstate.Attr{{Type: 1, Data: []byte{1}}, {Type: 2}, expiresAttr(5)}}
	b := netstate.Route{Attrs: []netstate.Attr{{Type: 2}, {Type: 1, Data: []byte{1}}}}
	if !sameRoute(a, b) {
		t.Error("they are not")
	}
	b.Attrs[1].Data = []byte{2}
	if sameRoute(a, b) {
		t.Error("an attribute that differs is not seen")
	}
}

func FuzzParsers(f *testing.F) {
	f.Add(routeMessage(netstate.Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Via: podIP, Table: 254}).bytes())
	f.Add(addrMessage(netstate.Addr{Prefix: netip.PrefixFrom(podIP, 24)}).bytes())
	f.Add(newMessage(ifinfo(1, 0, 0)).str(unix.IFLA_IFNAME, "eth0").nest(unix.IFLA_LINKINFO, bridgeOptions).bytes())
	f.Fuzz(func(t *testing.T, msg []byte) {
		_, _ = parseLink(msg)
		_, _, _ = parseAddr(msg)
		if fixed, attrs, err := split(msg, sizeofRuleHdr); err == nil {
			parseRule(fixed, attrs)
		}
		if fixed, attrs, err := split(msg, sizeofTcMsg); err == nil {
			parseTCFilter(fixed, attrs)
		}
		parseChain(attributes(msg))
		r, ok, err := parseRoute(msg)
		if err != nil || !ok || !r.Dst.IsValid() {
			return
		}
		// What is put back is what was read.
		again, ok, err := parseRoute(routeMessage(r).bytes())
		if err != nil || !ok {
			t.Fatalf("%+v cannot be read again: %v", r, err)
		}
		if again.Dst != r.Dst || again.Table != r.Table || again.Type != r.Type {
			t.Errorf("%+v is read again as %+v", r, again)
		}
	})
}
