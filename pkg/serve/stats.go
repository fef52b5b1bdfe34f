package serve

import (
	"cmp"
	"maps"
	"sync"
	"time"

	"github.com/podwire/podwire/pkg/dhcp4"
	"github.com/podwire/podwire/pkg/dhcp6"
	"github.com/podwire/podwire/pkg/netstate"
)

// Status is how a server does.
type Status struct {
	PID    int               `json:"pid"`
	NetNS  netstate.Identity `json:"netns"` // in which it serves
	Since  time.Time         `json:"since"`
	Guest  *Guest            `json:"guest,omitempty"` // nil while the guest has said nothing
	Counts map[string]uint64 `json:"counts,omitempty"`
	// Degraded is what the server cannot do any more until it is started anew, or for now,
	// in words.
	Degraded []string `json:"degraded,omitempty"`
	// Confinement is what the server's process has given up; nil where it has given up
	// nothing.
	Confinement *Confinement `json:"confinement,omitempty"`
}

// Confinement is what a server's process cannot do any more, whatever a guest makes it
// try.
type Confinement struct {
	Capabilities    string   `json:"capabilities"`      // those that it has left: none, or a number in base 16 as in /proc/PID/status
	NoNewPrivileges bool     `json:"noNewPrivileges"`   // no program that it starts has more
	Seccomp         int      `json:"seccomp"`           // the system calls that it may make; 0 for all
	Landlock        int      `json:"landlock"`          // the ABI of the rules for files, ports and signals; 0 for no rules
	Lacking         []string `json:"lacking,omitempty"` // what could not be done, and why
}

// Guest is what the server last heard of the guest and told it.
type Guest struct {
	Hostname    string     `json:"hostname,omitempty"`    // what the guest calls itself
	VendorClass string     `json:"vendorClass,omitempty"` // what its DHCP client calls itself
	Message     string     `json:"message"`               // the last message, such as REQUEST, SOLICIT or RS
	Answer      string     `json:"answer,omitempty"`      // what it got, such as ACK, REPLY or RA; empty for silence
	At          time.Time  `json:"at"`
	BoundAt     *time.Time `json:"boundAt,omitempty"`     // the last ACK: it has its IPv4 address
	BoundIPv6At *time.Time `json:"boundIPv6At,omitempty"` // the last REPLY with addresses
}

// stats may be read while the server runs.
type stats struct {
	mu     *sync.Mutex
	since  time.Time
	guest  *Guest
	counts map[string]uint64
	logged map[string]*bucket
}

func newStats(now time.Time) stats {
	return stats{mu: new(sync.Mutex), since: now, counts: map[string]uint64{}, logged: map[string]*bucket{}}
}

func (s *stats) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

func (s *stats) silence4(req *dhcp4.Request, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[reason]++
	// What another MAC sent says nothing about the guest.
	if reason == dhcp4.ReasonRelease || reason == dhcp4.ReasonDecline {
		s.heard(req.Type.String(), "", req.Hostname, req.VendorClass)
	}
}

func (s *stats) exchange4(req *dhcp4.Request, a dhcp4.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := a.Type.String()
	s.counts[req.Type.String()+"-"+kind]++
	s.heard(req.Type.String(), kind, req.Hostname, req.VendorClass)
	if kind == "ACK" {
		at := s.guest.At
		s.guest.BoundAt = &at
	}
}

func (s *stats) exchange6(req *dhcp6.Request, a dhcp6.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[req.Type.String()+"-"+a.Type.String()]++
	s.heard(req.Type.String(), a.Type.String(), req.Hostname, req.VendorClass)
	if bound6(req, a) {
		at := s.guest.At
		s.guest.BoundIPv6At = &at
	}
}

// advertised notes an RS.
func (s *stats) advertised(answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := ""
	if answered {
		answer = "RA"
	}
	s.counts["RS-RA"]++
	s.heard("RS", answer, "", "")
}

// heard notes a message of the guest; s.mu is held. What the message does not say
// stays as it was said.
func (s *stats) heard(message, answer, hostname, vendor string) {
	var g Guest
	if s.guest != nil {
		g = *s.guest
	}
	g.Message, g.Answer, g.At = message, answer, time.Now()
	g.Hostname, g.VendorClass = cmp.Or(hostname, g.Hostname), cmp.Or(vendor, g.VendorClass)
	s.guest = &g
}

// logRate bounds how often somebody else can make the server log one kind of line:
// the log of a server that runs for years is no place for a guest to fill.
var logRate = rate{second: 1.0 / 60, burst: 10}

// mayLog reports whether a line of this kind may be logged.
func (s *stats) mayLog(kind string) bool { return s.may(kind, logRate) }

// mayWarn is mayLog for what is worth a line a minute from the first on.
func (s *stats) mayWarn(kind string) bool { return s.may(kind, rate{logRate.second, 1}) }

func (s *stats) may(kind string, r rate) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.logged[kind]
	if b == nil {
		b = &bucket{rate: r}
		s.logged[kind] = b
	}
	return b.take(time.Now())
}

// Status returns how the server does, at this moment.
func (s *Server) Status() Status {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	st := Status{Since: s.stats.since, Counts: maps.Clone(s.stats.counts)}
	if s.stats.guest != nil {
		g := *s.stats.guest
		st.Guest = &g
	}
	return st
}
