//go:build linux

package kernel

import (
	"bytes"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/plan"
)

// marker is a frame that no filter looks for. Frames keep their order, so what
// was sent before it and has not come by then does not come.
func marker(number byte) []byte { return ether(0x88b5, append(make([]byte, 49), number)) }

// Frames enter the pod by eth0, as they do in a bridge, and leave it by out0.
type filtered struct {
	*pod
	in, out *netnstest.Packet
}

func newFiltered(t *testing.T, opts ...Option) *filtered {
	t.Helper()
	p := newPod(t, nil, opts...)
	netnstest.Veth(t, p.NS, "out0", p.node, "far0")
	p.do(t, plan.CreateBridge{Name: "br0", MAC: bridgeMAC, MTU: 1450},
		plan.AttachPort{Link: "eth0", Bridge: "br0"}, plan.AttachPort{Link: "out0", Bridge: "br0"})
	f := &filtered{pod: p, in: p.node.Packet(t, "veth0"), out: p.node.Packet(t, "far0")}
	p.settle(t)
	until(t, "the bridge to forward", func() bool { return f.crosses(t, marker(0)) })
	return f
}

// crosses reports whether a frame comes through the bridge.
func (f *filtered) crosses(t *testing.T, frame []byte) bool {
	t.Helper()
	f.in.Send(t, frame)
	f.in.Send(t, marker(1))
	isMarker := func(b []byte) bool { return bytes.Equal(b, marker(1)) }
	isFrame := func(b []byte) bool { return bytes.Equal(b, heard(frame)) }
	got := f.out.Next(t, time.Second, func(b []byte) bool { return isFrame(b) || isMarker(b) })
	if got == nil || isMarker(got) {
		return false
	}
	f.out.Next(t, time.Second, isMarker)
	return true
}

// heard is a frame as a packet socket hears it: the kernel has taken its VLAN
// tag out.
func heard(frame []byte) []byte {
	if frame[12] == 0x81 && frame[13] == 0 {
		return slices.Delete(slices.Clone(frame), 12, 16)
	}
	return frame
}

// backends are the two ways to filter.
var backends = map[string][]Option{"tc": nil, "nftables": {WithoutTC()}}

func TestFilterDropsWhatMatchesAndNothingElse(t *testing.T) {
	t.Parallel()
	for name, opts := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFiltered(t, opts...)
			step := plan.AddFilter{Link: "eth0", Name: "test", Drop: podMatches}
			f.do(t, step)
			for _, c := range frames {
				if c.malformed {
					continue
				}
				if crossed := f.crosses(t, c.frame); crossed == c.match {
					t.Errorf("%s: crossed is %v", c.name, crossed)
				}
			}
			f.undo(t, step)
			for _, c := range frames {
				if c.match && !c.malformed && !f.crosses(t, c.frame) {
					t.Errorf("%s: dropped although the filter was removed", c.name)
				}
			}
		})
	}
}

func TestFilterPassesWhatItIsTold(t *testing.T) {
	t.Parallel()
	pass := []plan.Match{{Kind: plan.MatchFrom, MAC: serverMAC}, {Kind: plan.MatchARPProbe, Addr: podIP}}
	answer := ether(0x0800, udp(67, 68, 0, 0))
	for name, opts := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFiltered(t, opts...)
			for what, drop := range map[string][]plan.Match{"some": podMatches, "all": {{Kind: plan.MatchAll}}} {
				step := plan.AddFilter{Link: "eth0", Name: "test", Pass: pass, Drop: drop}
				f.do(t, step)
				before := f.listing(t)
				f.do(t, step)
				if got := f.listing(t); got != before {
					t.Errorf("doing it again changed\n%s\nto\n%s", before, got)
				}
				for i, frame := range [][]byte{sourced(answer, serverMAC), ether(0x0806, arp(1, anyIP, podIP))} {
					if !f.comes(t, frame) {
						t.Errorf("of %s, frame %d is dropped", what, i)
					}
				}
				for i, frame := range [][]byte{answer, ether(0x0806, arp(1, anyIP, gatewayIP))} {
					if f.comes(t, frame) {
						t.Errorf("of %s, frame %d passes", what, i)
					}
				}
				if tagged := f.comes(t, vlan(sourced(marker(5), serverMAC))); tagged != (what == "some") {
					t.Errorf("of %s, a frame of a VLAN passes: %v", what, tagged)
				}
				f.undo(t, step)
			}
		})
	}
}

// comes is crosses for a filter that drops all but what comes from the server.
func (f *filtered) comes(t *testing.T, frame []byte) bool {
	t.Helper()
	last := sourced(marker(2), serverMAC)
	f.in.Send(t, frame)
	f.in.Send(t, last)
	isLast := func(b []byte) bool { return bytes.Equal(b, last) }
	got := f.out.Next(t, time.Second, func(b []byte) bool { return bytes.Equal(b, heard(frame)) || isLast(b) })
	if got == nil || isLast(got) {
		return false
	}
	f.out.Next(t, time.Second, isLast)
	return true
}

// The kernel makes more of a program than what it is given, and holds that against
// limits of its own.
func TestFilterForHundredsOfAddresses(t *testing.T) {
	t.Parallel()
	_, v6 := addresses(435) // as many as there is room for
	last := v6[len(v6)-1]
	matches := matchesOf(plan.MatchNDWhoHas, v6)
	for name, opts := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFiltered(t, opts...)
			step := plan.AddFilter{Link: "eth0", Name: "test", Drop: matches}
			f.do(t, step)
			f.wantFilters(t, "test")
			for _, a := range []netip.Addr{v6[0], v6[200], last} {
				if f.crosses(t, ether(0x86dd, solicit(podIP6, a))) {
					t.Errorf("the question for %s crosses", a)
				}
			}
			if !f.crosses(t, ether(0x86dd, solicit(podIP6, otherIP6))) {
				t.Error("another address does not cross")
			}
			f.undo(t, step)
			if f.wantFilters(t); !f.crosses(t, ether(0x86dd, solicit(podIP6, last))) {
				t.Error("it is there yet")
			}
		})
	}
	s := newServed(t, matches...)
	question := ether(0x86dd, solicit(podIP6, last))
	s.send(t, question)
	if got := s.read(t); !bytes.Equal(got, question) {
		t.Errorf("heard %x", got)
	}
}

func TestFilterIsAddedAndRemovedOnce(t *testing.T) {
	t.Parallel()
	for name, opts := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, nil, opts...)
			before := p.state(t)
			first := plan.AddFilter{Link: "eth0", Name: "first", Drop: podMatches}
			second := plan.AddFilter{Link: "eth0", Name: "second", Drop: podMatches[:1]}
			p.do(t, first, second)
			p.wantFilters(t, "first", "second")
			after := p.listing(t)
			p.do(t, first, second)
			if got := p.listing(t); got != after {
				t.Errorf("doing it again changed\n%s\nto\n%s", after, got)
			}

			p.undo(t, first)
			p.wantFilters(t, "second")
			p.undo(t, first)
			p.wantFilters(t, "second")
			p.undo(t, second)
			p.undo(t, second)
			p.wantState(t, before)
			if got := p.Run(t, "nft", "list", "ruleset"); got != "" {
				t.Errorf("left behind:\n%s", got)
			}
		})
	}
}

// listing is the filters as tc(8) and nft(8) see them.
func (p *pod) listing(t *testing.T) string {
	t.Helper()
	return p.Run(t, "tc", "filter", "show", "dev", "eth0", "ingress") + p.Run(t, "nft", "-a", "list", "ruleset")
}

func (p *pod) wantFilters(t *testing.T, names ...string) {
	t.Helper()
	s := p.snapshot(t)
	for _, name := range names {
		if !s.HasFilter(p.Index(t, "eth0"), name) {
			t.Errorf("filter %q is missing in %+v", name, s.Filters)
		}
	}
	if len(s.Filters) != len(names) {
		t.Errorf("filters %+v, want %v", s.Filters, names)
	}
}

func TestFilterThatSaysSomethingElseIsReplaced(t *testing.T) {
	t.Parallel()
	for name, opts := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFiltered(t, opts...)
			f.do(t, plan.AddFilter{Link: "eth0", Name: "test", Drop: podMatches[1:]})
			request := ether(0x0800, udp(68, 67, 0, 0))
			if !f.crosses(t, request) {
				t.Error("dropped before it is looked for")
			}
			f.do(t, plan.AddFilter{Link: "eth0", Name: "test", Drop: podMatches[:1]})
			if f.crosses(t, request) || !f.crosses(t, ether(0x0800, udp(67, 68, 0, 0))) {
				t.Error("the old filter is still there")
			}
			f.wantFilters(t, "test")
		})
	}
}

func TestFiltersOfOthersStay(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	step := plan.AddFilter{Link: "eth0", Name: "test", Drop: podMatches}
	for _, others := range [][]string{
		{"filter", "add", "dev", "eth0", "ingress", "prio", "10", "u32", "match", "u32", "0", "0", "classid", "1:1"},
		{"filter", "add", "dev", "eth0", "egress", "prio", "10", "u32", "match", "u32", "0", "0", "classid", "1:1"},
	} {
		p.do(t, step)
		p.Run(t, "tc", others...)
		p.undo(t, step)
		if got := p.Run(t, "tc", "filter", "show", "dev", "eth0", others[4]); !strings.Contains(got, "u32") {
			t.Errorf("%s: the filter of another is gone", others[4])
		}
		if got := p.Run(t, "tc", "filter", "show", "dev", "eth0", "ingress"); strings.Contains(got, "bpf") {
			t.Errorf("%s: podwire's filter is left:\n%s", others[4], got)
		}
		p.Run(t, "tc", "qdisc", "del", "dev", "eth0", "clsact")
	}
}

// Another program's filter runs after podwire's, for frames that podwire passes.
func TestFiltersOfOthersAreAsked(t *testing.T) {
	t.Parallel()
	f := newFiltered(t)
	f.do(t, plan.AddFilter{Link: "eth0", Name: "test", Drop: podMatches})
	dns := ether(0x0800, udp(5353, 53, 0, 0))
	if !f.crosses(t, dns) {
		t.Fatal("dropped by podwire's filter")
	}
	f.Run(t, "tc", "filter", "add", "dev", "eth0", "ingress", "prio", "100", "bpf", "da",
		"bytecode", "1,6 0 0 2") // return TC_ACT_SHOT
	if f.crosses(t, dns) {
		t.Error("the other filter was not asked")
	}
}

func TestHookOfAnotherStays(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"clsact", "ingress"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFiltered(t)
			f.Run(t, "tc", "qdisc", "add", "dev", "eth0", kind)
			before := f.state(t)
			step := plan.AddFilter{Link: "eth0", Name: "test", Drop: podMatches, KeepHook: true}
			f.do(t, step)
			if f.crosses(t, ether(0x0800, udp(68, 67, 0, 0))) {
				t.Error("not dropped")
			}
			f.wantFilters(t, "test")
			f.undo(t, step)
			f.wantState(t, before)
		})
	}
}

// The kernels that lack clsact or cls_bpf are not at hand: their answers are.
func TestKernelWithoutTCFiltersByNFTables(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]struct {
		kind  uint16
		errno unix.Errno
	}{
		"no clsact":          {unix.RTM_NEWQDISC, unix.ENOENT},
		"no cls_bpf":         {unix.RTM_NEWTFILTER, unix.ENOENT},
		"no classifiers":     {unix.RTM_NEWTFILTER, unix.EOPNOTSUPP},
		"no direct action":   {unix.RTM_NEWTFILTER, unix.EINVAL},
		"no traffic control": {unix.RTM_NEWQDISC, unix.EOPNOTSUPP},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, nil)
			before := p.state(t)
			p.refuse(refuse.kind, refuse.errno)
			step := plan.AddFilter{Link: "eth0", Name: "test", Drop: podMatches}
			p.do(t, step)
			p.wantFilters(t, "test")
			if got := p.listing(t); !strings.Contains(got, "table netdev podwire") || strings.Contains(got, "clsact") {
				t.Errorf("filters are\n%s", got)
			}
			p.undo(t, step)
			p.wantState(t, before)
		})
	}
}

// refuse answers requests of a kind with an errno.
func (p *pod) refuse(kind uint16, errno unix.Errno) {
	real := p.k.route.execute
	p.k.route.execute = func(req *nl.NetlinkRequest) ([][]byte, error) {
		if req.Type == kind {
			return nil, errno
		}
		return real(req)
	}
}

func TestFilterOfALinkThatIsGoneIsRemoved(t *testing.T) {
	t.Parallel()
	for name, opts := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, nil, opts...)
			step := plan.AddFilter{Link: "eth0", Name: "test", Drop: podMatches}
			p.do(t, step)
			p.Delete(t, "eth0")
			p.undo(t, step)
			if got := p.Run(t, "nft", "list", "ruleset"); got != "" {
				t.Errorf("left behind:\n%s", got)
			}
			if err := p.k.Do(t.Context(), step); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("filtering a link that is gone: %v", err)
			}
		})
	}
}

// A bridge's own ingress is what the pod's network stack hears of it. With all of
// that dropped the pod answers for no address of its own there, and takes no
// router advertisement; what crosses the bridge is not concerned.
func TestBridgeCanBeMadeDeaf(t *testing.T) {
	t.Parallel()
	for name, opts := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFiltered(t, opts...)
			f.Addr(t, "lo", gatewayIP.String()+"/32")
			f.IP(t, "link set br0 up")
			question := ether(0x0806, arp(1, podIP, gatewayIP))
			answered := func() bool {
				f.in.Send(t, question)
				isAnswer := func(b []byte) bool { return b[12] == 8 && b[13] == 6 && b[21] == 2 }
				return f.in.Next(t, time.Second/4, isAnswer) != nil
			}
			if !answered() {
				t.Fatal("the pod answers for no address before")
			}
			f.do(t, plan.AddFilter{Link: "br0", Name: "deaf", Drop: []plan.Match{{Kind: plan.MatchAll}}})
			if answered() {
				t.Error("the pod answers")
			}
			if !f.crosses(t, question) {
				t.Error("the frame does not cross")
			}
		})
	}
}

func TestKernelWithoutAnyFilterSaysBothReasons(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.refuse(unix.RTM_NEWQDISC, unix.ENOENT)
	step := plan.AddFilter{Link: "eth0", Name: strings.Repeat("x", 300), Drop: podMatches} // too long for a chain
	err := p.k.Do(t.Context(), step)
	if !errors.Is(err, errNoTC) || !strings.Contains(err.Error(), "by nftables: ") {
		t.Errorf("got %v", err)
	}
}
