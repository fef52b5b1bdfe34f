package dhcp4

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/pkg/lease"
)

// bigLease has more to say than a message of the least size holds.
func bigLease() lease.Lease {
	l := podLease()
	l.MTU = 9000
	l.Addrs = []netip.Prefix{prefix("10.244.1.7/32")}
	l.Routes = nil
	for i := range 200 {
		l.Routes = append(l.Routes, via(fmt.Sprintf("10.%d.0.0/16", i), "169.254.1.1"))
	}
	l.Routes = append(l.Routes, via("0.0.0.0/0", "169.254.1.1"))
	l.Search = domains(30)
	return l
}

func TestEverythingArrivesWhereThereIsRoom(t *testing.T) {
	l := bigLease()
	a := answer(t, l, discover(maxSize(65535), params(1, 3, 6, 12, 15, 119, 121, 249)))
	if len(a.Dropped) > 0 {
		t.Errorf("dropped %q", a.Dropped)
	}
	p := check(t, a.Payload)
	if diff := cmp.Diff(l.Search, p.DomainSearch().Labels); diff != "" {
		t.Errorf("search (-want +got):\n%s", diff)
	}
	if got := len(p.ClasslessStaticRoute()); got != 202 {
		t.Errorf("%d routes, want 200, the default and the gateway's", got)
	}
	_, values := allOptions(t, a.Payload)
	if !slices.Equal(values[optRoutes], values[optRoutesWindows]) {
		t.Error("121 and 249 differ")
	}
}

func TestLongOptionsAreSplit(t *testing.T) {
	l := bigLease()
	var pieces []int
	for _, o := range walk(t, answer(t, l, discover(maxSize(9000), params(121))).Payload[optionsAt:]) {
		if o.code == optRoutes {
			pieces = append(pieces, len(o.data))
		}
	}
	// Each piece ends where a route does: one of 9 octets to the gateway, 200 of 7
	// and the default route of 5.
	size := 9 + 200*7 + 5
	want := []int{9 + 35*7, 36 * 7, 36 * 7, 36 * 7, 36 * 7, size - 9 - (35+4*36)*7}
	if diff := cmp.Diff(want, pieces); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheLeastMessageHoldsAValidLease(t *testing.T) {
	l := bigLease()
	a := answer(t, l, discover(text(optClientID, "\x01id")))
	if got := len(a.Payload) + headersLen; got > 576 {
		t.Errorf("a datagram of %d octets", got)
	}
	_, values := allOptions(t, a.Payload)
	for _, code := range []uint8{1, 3, 6, 26, 51, 53, 54, 61, 66, 67, 121} {
		if len(values[code]) == 0 {
			t.Errorf("option %d is missing", code)
		}
	}
	routes := classless(t, values[optRoutes])
	if routes[0] != "169.254.1.1/32 via 0.0.0.0" || routes[len(routes)-1] != "0.0.0.0/0 via 169.254.1.1" {
		t.Errorf("routes from %s to %s", routes[0], routes[len(routes)-1])
	}
	want := []string{
		"15 (domain)", "42 (NTP servers)", "119 (domain search): 30 of 30",
		fmt.Sprintf("121 (classless routes): %d of 202", 202-len(routes)), "240", "252",
	}
	if len(a.Dropped) == 0 || !slices.Contains(a.Dropped, want[3]) {
		t.Errorf("dropped %q, and not %q", a.Dropped, want[3])
	}
	if how := overloadOf(t, a.Payload); how != overloadBoth {
		t.Errorf("overload %d, want both", how)
	}
}

func overloadOf(t *testing.T, payload []byte) overload {
	t.Helper()
	for _, o := range walk(t, payload[optionsAt:]) {
		if o.code == optOverload {
			return overload(o.data[0])
		}
	}
	return overloadNone
}

// fillers are private options of these lengths, from 230 on, and the list that
// asks for them. What is always sent takes 27 of the 308 octets that a message of
// the least size has for options, the end option one and option 52 three.
func fillers(l *lease.Lease, lengths ...int) opt {
	list := params(1, 3)
	for i, n := range lengths {
		code := uint8(230 + i)
		if l.Options == nil {
			l.Options = map[uint8]string{}
		}
		l.Options[code] = strings.Repeat("x", n)
		list.data = append(list.data, code)
	}
	return list
}

func TestOverloadTakesTheLeastThatDoes(t *testing.T) {
	tests := []struct {
		name    string
		lengths []int
		want    overload
	}{
		{"none while the options fit their field", []int{200, 76}, overloadNone},
		{"sname", []int{200, 60, 61}, overloadSname},
		{"file where sname is too short", []int{200, 77}, overloadFile},
		{"both", []int{200, 70, 100, 60}, overloadBoth},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := plainLease()
			a := answer(t, l, discover(fillers(&l, tt.lengths...)))
			if got := overloadOf(t, a.Payload); got != tt.want {
				t.Errorf("overload %d, want %d", got, tt.want)
			}
			var first []uint8
			for _, o := range walk(t, a.Payload[optionsAt:]) {
				first = append(first, o.code)
			}
			for _, code := range []uint8{53, 1, 3, 51, 54} {
				if !slices.Contains(first, code) {
					t.Errorf("option %d is not in the options field", code)
				}
			}
			_, values := allOptions(t, a.Payload)
			for i, n := range tt.lengths {
				if got := len(values[uint8(230+i)]); got != n {
					t.Errorf("option %d has %d octets, want %d", 230+i, got, n)
				}
			}
			if len(a.Dropped) > 0 {
				t.Errorf("dropped %q", a.Dropped)
			}
		})
	}
}

func TestBootNamesMoveIntoOptionsWhenTheirFieldIsOverloaded(t *testing.T) {
	tests := []struct {
		name        string
		bootFile    string
		lengths     []int
		sname, file string
		tftp, boot  string // options 66 and 67
	}{
		{"with room, both stand in their fields", "boot.efi", nil, "tftp.example", "boot.efi", "", ""},
		{"sname overloaded", "boot.efi", []int{200, 40, 40}, "", "boot.efi", "tftp.example", ""},
		{"file overloaded", "boot.efi", []int{200, 90}, "tftp.example", "", "", "boot.efi"},
		{"both overloaded", "boot.efi", []int{200, 70, 80, 40}, "", "", "tftp.example", "boot.efi"},
		{"a name without room for its NUL", strings.Repeat("b", 128), nil, "tftp.example", "", "", strings.Repeat("b", 128)},
		{"the longest name with its NUL", strings.Repeat("b", 127), nil, "tftp.example", strings.Repeat("b", 127), "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := plainLease()
			l.TFTPServer, l.BootFile = "tftp.example", tt.bootFile
			a := answer(t, l, discover(fillers(&l, tt.lengths...)))
			how := overloadOf(t, a.Payload)
			p := check(t, a.Payload)
			if got := p.ServerHostName; !how.hasSname() && got != tt.sname || how.hasSname() != (tt.sname == "") {
				t.Errorf("overload %d, sname %q, want %q", how, got, tt.sname)
			}
			if got := p.BootFileName; !how.hasFile() && got != tt.file {
				t.Errorf("overload %d, file %q, want %q", how, got, tt.file)
			}
			_, values := allOptions(t, a.Payload)
			if tftp, boot := string(values[optTFTPServer]), string(values[optBootFile]); tftp != tt.tftp || boot != tt.boot {
				t.Errorf("66 %q, 67 %q; want %q, %q", tftp, boot, tt.tftp, tt.boot)
			}
			if len(a.Dropped) > 0 {
				t.Errorf("dropped %q", a.Dropped)
			}
			if !p.ServerIPAddr.IsUnspecified() {
				t.Errorf("siaddr %v for a server known by name", p.ServerIPAddr)
			}
		})
	}
}

func TestALongSearchListIsCompressedBeforeItIsCut(t *testing.T) {
	l := plainLease()
	for i := range 10 { // 301 octets plain, 127 with pointers
		l.Search = append(l.Search, fmt.Sprintf("t%d.svc.a-rather-long-name.test", i))
	}
	a := answer(t, l, discover(params(119)))
	if len(a.Dropped) > 0 || overloadOf(t, a.Payload) != overloadNone {
		t.Errorf("dropped %q, overload %d", a.Dropped, overloadOf(t, a.Payload))
	}
	if diff := cmp.Diff(l.Search, check(t, a.Payload).DomainSearch().Labels); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatIsLeftOutIsLeastImportant(t *testing.T) {
	l := plainLease()
	l.Search, l.Hostname, l.Domain = domains(40), "vm-0", "example"
	l.NTP = []netip.Addr{addr("10.0.0.1"), addr("10.0.0.2")}
	for i := range 20 {
		l.Routes = append(l.Routes, via(fmt.Sprintf("10.%d.0.0/16", i), "10.244.1.1"))
	}
	a := answer(t, l, discover(params(1, 3, 12, 15, 28, 42, 119, 121, 249)))
	if len(a.Dropped) != 2 || a.Dropped[1] != "249 (classless routes, Microsoft's number)" ||
		!strings.HasPrefix(a.Dropped[0], "119 (domain search): ") {
		t.Errorf("dropped %q", a.Dropped)
	}
	kept := check(t, a.Payload).DomainSearch().Labels
	if diff := cmp.Diff(l.Search[:len(kept)], kept); diff != "" || len(kept) == 0 {
		t.Errorf("what is kept of the search list is not its start (-want +got):\n%s", diff)
	}
}

func TestEverySizeIsKept(t *testing.T) {
	l := bigLease()
	for size := uint16(0); size <= 4000; size += 37 {
		a := answer(t, l, discover(maxSize(size), params(1, 3, 6, 12, 15, 26, 28, 42, 119, 121, 249), text(optClientID, "\x01id")))
		if got, limit := len(a.Payload)+headersLen, max(int(size), 576); got > limit {
			t.Errorf("size %d: a datagram of %d octets", size, got)
		}
		_, values := allOptions(t, a.Payload)
		routes := classless(t, values[optRoutes])
		if routes[0] != "169.254.1.1/32 via 0.0.0.0" || routes[len(routes)-1] != "0.0.0.0/0 via 169.254.1.1" {
			t.Errorf("size %d: routes from %s to %s", size, routes[0], routes[len(routes)-1])
		}
		if v, ok := values[optRoutesWindows]; ok && !slices.Equal(v, values[optRoutes]) {
			t.Errorf("size %d: 249 differs from 121", size)
		}
	}
}

func TestTheLinkBoundsTheSize(t *testing.T) {
	for mtu, limit := range map[int]int{0: 1500, 1280: 1280, 576: 576, 400: 400, 68: 328, 65536: 65535} {
		l := bigLease()
		l.MTU = mtu
		l.Options = map[uint8]string{}
		for code := uint8(224); code < 249; code++ {
			l.Options[code] = strings.Repeat("x", 4000)
		}
		a := answer(t, l, discover(maxSize(65535), text(optClientID, "\x01id")))
		if got := len(a.Payload) + headersLen; got > limit || got < limit*9/10 {
			t.Errorf("MTU %d: a datagram of %d octets, want nearly %d", mtu, got, limit)
		}
	}
}

func TestAClientIdentifierBeyondAllMeasureIsNotEchoed(t *testing.T) {
	a := answer(t, plainLease(), discover(text(optClientID, strings.Repeat("i", 3000))))
	if diff := cmp.Diff([]string{"61 (client identifier)"}, a.Dropped); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	a = answer(t, plainLease(), request(ip(optRequestedIP, "10.9.9.9"), text(optClientID, strings.Repeat("i", 3000))))
	if diff := cmp.Diff([]string{"61 (client identifier)"}, a.Dropped); diff != "" {
		t.Errorf("NAK (-want +got):\n%s", diff)
	}
}

func TestRoutesByNumber249AloneAreCutLikeThoseOf121(t *testing.T) {
	a := answer(t, bigLease(), discover(params(249)))
	codes, values := allOptions(t, a.Payload)
	if slices.Contains(codes, optRoutes) {
		t.Error("121 sent to a client that asks for 249")
	}
	routes := classless(t, values[optRoutesWindows])
	if len(routes) < 20 || routes[len(routes)-1] != "0.0.0.0/0 via 169.254.1.1" {
		t.Errorf("%d routes, the last %s", len(routes), routes[len(routes)-1])
	}
	want := fmt.Sprintf("249 (classless routes, Microsoft's number): %d of 202", 202-len(routes))
	if diff := cmp.Diff([]string{want}, a.Dropped); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
