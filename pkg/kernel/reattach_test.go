//go:build linux

package kernel

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/podwire/podwire/pkg/plan"
)

// TestReattach: a socket whose tap was deleted hears the one that has its name later, and
// what it is to hear may change while it is attached.
func TestReattach(t *testing.T) {
	t.Parallel()
	s := newServed(t, podMatches...)
	s.Delete(t, "tap-eth0")
	if _, err := s.tap.Read(make([]byte, 2048)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("reading from a tap that is gone: %v", err)
	}
	if err := s.tap.Reattach(t.Context(), podMatches); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("attaching to a tap that is gone: %v", err)
	}
	s.do(t, plan.CreateTap{Name: "tap-eth0", MAC: tapMAC, MTU: 1450, Queues: 1})
	s.guest = s.pod.guest(t, "tap-eth0")
	s.Up(t, "tap-eth0")
	if err := s.tap.Reattach(t.Context(), podMatches); err != nil {
		t.Fatal(err)
	}
	dhcp, arp := ether(0x0800, udp(68, 67, 0, 0)), frames[0].frame
	for _, f := range frames {
		if f.match && !bytes.Equal(f.frame, dhcp) {
			arp = f.frame
		}
	}
	s.send(t, dhcp)
	if got := s.read(t); !bytes.Equal(got, dhcp) {
		t.Errorf("heard %x", got)
	}
	if err := s.tap.Reattach(t.Context(), []plan.Match{{Kind: plan.MatchDHCPClient}}); err != nil {
		t.Fatal(err)
	}
	s.send(t, arp)
	s.send(t, dhcp)
	if got := s.read(t); !bytes.Equal(got, dhcp) {
		t.Errorf("with another filter it heard %x", got)
	}
	if err := s.tap.Reattach(t.Context(), nil); err != nil {
		t.Errorf("with nothing to hear: %v", err)
	}
}

// TestASocketThatHearsNothing may hear something later, and costs its link nothing till then:
// the kernel has no hook for it.
func TestASocketThatHearsNothing(t *testing.T) {
	t.Parallel()
	s := newServed(t)
	var hooks []byte
	var err error
	s.Do(t, func() { hooks, err = os.ReadFile("/proc/thread-self/net/packet") })
	// The sixth field of each socket says whether it has a hook.
	if fields := strings.Fields(string(hooks)); err != nil || len(fields) != 18 || fields[14] != "0" {
		t.Errorf("%v: the sockets are\n%s", err, hooks)
	}
	if err := s.tap.Reattach(t.Context(), podMatches); err != nil {
		t.Fatal(err)
	}
	dhcp := ether(0x0800, udp(68, 67, 0, 0))
	s.send(t, dhcp)
	if got := s.read(t); !bytes.Equal(got, dhcp) {
		t.Errorf("heard %x", got)
	}
}
