package serve

import (
	"maps"
	"sync"
	"time"

	"github.com/podwire/podwire/pkg/dhcp4"
	"github.com/podwire/podwire/pkg/netstate"
)

// Status is how a server does.
type Status struct {
	PID    int               `json:"pid"`
	NetNS  netstate.Identity `json:"netns"` // in which it serves
	Since  time.Time         `json:"since"`
	Guest  *Guest            `json:"guest,omitempty"` // nil while the guest has said nothing
	Counts map[string]uint64 `json:"counts,omitempty"`
}

// Guest is what the server last heard of the guest and told it.
type Guest struct {
	Hostname    string     `json:"hostname,omitempty"`    // what the guest calls itself
	VendorClass string     `json:"vendorClass,omitempty"` // what its DHCP client calls itself
	Message     string     `json:"message"`               // the last message, such as REQUEST
	Answer      string     `json:"answer,omitempty"`      // what it got, such as ACK; empty for silence
	At          time.Time  `json:"at"`
	BoundAt     *time.Time `json:"boundAt,omitempty"` // the last ACK
}

// stats may be read while the server runs.
type stats struct {
	mu     *sync.Mutex
	since  time.Time
	guest  *Guest
	counts map[string]uint64
	logged map[string]time.Time
}

func newStats(now time.Time) stats {
	return stats{mu: new(sync.Mutex), since: now, counts: map[string]uint64{}, logged: map[string]time.Time{}}
}

func (s *stats) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

func (s *stats) silence(req *dhcp4.Request, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[reason]++
	// What another MAC sent says nothing about the guest.
	if reason == dhcp4.ReasonRelease || reason == dhcp4.ReasonDecline {
		s.heard(req, "")
	}
}

func (s *stats) exchange(req *dhcp4.Request, a dhcp4.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := a.Type.String()
	s.counts[req.Type.String()+"-"+kind]++
	s.heard(req, kind)
	if kind == "ACK" {
		at := s.guest.At
		s.guest.BoundAt = &at
	}
}

// heard notes a message of the guest; s.mu is held.
func (s *stats) heard(req *dhcp4.Request, answer string) {
	g := Guest{
		Hostname: req.Hostname, VendorClass: req.VendorClass,
		Message: req.Type.String(), Answer: answer, At: time.Now(),
	}
	if s.guest != nil {
		g.BoundAt = s.guest.BoundAt
	}
	s.guest = &g
}

// mayLog reports whether a line of this kind is due again.
func (s *stats) mayLog(kind string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if last, ok := s.logged[kind]; ok && now.Sub(last) < logEvery {
		return false
	}
	s.logged[kind] = now
	return true
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
