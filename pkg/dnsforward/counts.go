package dnsforward

import "sync/atomic"

// counter is one of the things that are counted.
type counter int

const (
	overUDP   counter = iota // questions that came by UDP
	overTCP                  // questions that came by TCP
	shortened                // answers that did not fit and were truncated
	failed                   // SERVFAIL made here: no upstream answered
	rejected                 // FORMERR, NOTIMP and REFUSED made here
	dropped                  // messages and connections that got nothing
	panics                   // of the relay, which went on
	counters
)

var counterNames = [counters]string{
	overUDP: "dns-udp", overTCP: "dns-tcp", shortened: "dns-truncated",
	failed: "dns-servfail", rejected: "dns-rejected", dropped: "dns-dropped",
	panics: "dns-panic",
}

type counts [counters]atomic.Uint64

func (c *counts) add(what counter) { c[what].Add(1) }

// Counts returns what has happened since the relay was made, for status. The names
// are always the same: dns-udp and dns-tcp are the guest's messages, dns-truncated
// answers that were too long for it, dns-servfail and dns-rejected what podwire
// itself had to answer, dns-dropped what it did not answer, dns-panic how often it failed itself.
func (r *Relay) Counts() map[string]uint64 {
	out := make(map[string]uint64, counters)
	for i, name := range counterNames {
		out[name] = r.counts[i].Load()
	}
	return out
}
