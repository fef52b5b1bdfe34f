package dnsforward

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/net/dns/dnsmessage"
)

// Sizes, in octets.
const (
	headerLen   = 12   // RFC 1035 §4.1.1
	plainSize   = 512  // of a datagram, where the client says nothing (RFC 1035 §4.2.1)
	maxDatagram = 4096 // the most that is taken by UDP from either side (RFC 5625 §4.4.2)
	maxName     = 255  // RFC 1035 §3.1
)

const serverFailure = dnsmessage.RCodeServerFailure

// What IANA's registries have and dnsmessage has no names for.
const (
	opcodeStateful = 6   // RFC 8490: it speaks about the connection, which ends here
	typeIXFR       = 251 // RFC 1995
	typeAXFR       = 252 // RFC 5936: many messages are one answer
	optionError    = 15  // RFC 8914 §2
	errorNetwork   = 23  // RFC 8914 §4.24
)

// question is a message of a client, of which only that is read which a relay must
// know. dnsmessage is not asked for the name: it takes no label with a dot, as
// service names have (RFC 6763 §4.1.1).
type question struct {
	message  []byte
	header   dnsmessage.Header
	section  []byte // its one question, name, type and class; empty if it has none
	size     int    // the longest answer that the client takes by UDP
	edns     bool   // it has an OPT record (RFC 6891)
	dnssecOK bool
}

// parse reads a client's message. Not ok: it gets no answer at all. With a code
// other than success, it is answered with that.
func parse(message []byte) (q question, rcode dnsmessage.RCode, ok bool) {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil || header.Response {
		return q, 0, false
	}
	q = question{message: message, header: header, size: plainSize}
	if header.OpCode == opcodeStateful {
		return q, dnsmessage.RCodeNotImplemented, true
	}
	switch binary.BigEndian.Uint16(message[4:]) {
	case 0: // RFC 7873 §5.4 has such ones
	case 1:
		end, ok := questionEnd(message)
		if !ok {
			return q, dnsmessage.RCodeFormatError, true
		}
		q.section = message[headerLen:end]
	default: // RFC 9619 §4
		return q, dnsmessage.RCodeFormatError, true
	}
	if opt, _, ok := findOPT(message); ok {
		q.edns, q.dnssecOK = true, opt.DNSSECAllowed()
		q.size = max(plainSize, int(opt.Class)) // RFC 6891 §6.2.3
	}
	if t := q.kind(); t == typeAXFR || t == typeIXFR {
		return q, dnsmessage.RCodeRefused, true
	}
	return q, dnsmessage.RCodeSuccess, true
}

// kind is the type that is asked for.
func (q question) kind() uint16 {
	if len(q.section) == 0 {
		return 0
	}
	return binary.BigEndian.Uint16(q.section[len(q.section)-4:])
}

// questionEnd returns where the first question ends. Its name cannot be
// compressed: there is no other before it.
func questionEnd(message []byte) (int, bool) {
	for at := headerLen; at < len(message) && at < headerLen+maxName; {
		n := int(message[at])
		if n == 0 {
			return at + 5, at+5 <= len(message)
		}
		if n > 63 {
			return 0, false
		}
		at += 1 + n
	}
	return 0, false
}

// findOPT returns the OPT record and its options. Where the records before it cannot be
// read there is none.
func findOPT(message []byte) (dnsmessage.ResourceHeader, dnsmessage.OPTResource, bool) {
	var (
		p    dnsmessage.Parser
		none dnsmessage.ResourceHeader
		body dnsmessage.OPTResource
	)
	if _, err := p.Start(message); err != nil {
		return none, body, false
	}
	for _, skip := range []func() error{p.SkipAllQuestions, p.SkipAllAnswers, p.SkipAllAuthorities} {
		if skip() != nil {
			return none, body, false
		}
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return none, body, false
		}
		if h.Type == dnsmessage.TypeOPT {
			body, err = p.OPTResource()
			return h, body, err == nil
		}
		if p.SkipAdditional() != nil {
			return none, body, false
		}
	}
}

// answeredBy reports whether a message that came from an upstream, which was asked
// with this id, is the answer (RFC 5452 §9.1). Upstreams may leave the question out of
// an error that has kept them from reading it, and may change the case of letters.
func (q question) answeredBy(id uint16, message []byte) bool {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || !h.Response || h.ID != id || h.OpCode != q.header.OpCode {
		return false
	}
	count, rest := binary.BigEndian.Uint16(message[4:]), message[headerLen:]
	if count == 0 {
		// RFC 2136 §3.8 lets answers to updates do without as well.
		return len(q.section) == 0 || h.OpCode != 0 || h.RCode == dnsmessage.RCodeFormatError || notWilling(h.RCode)
	}
	if count != 1 || len(q.section) == 0 || len(rest) < len(q.section) {
		return false
	}
	// Type and class are no letters.
	name := len(q.section) - 4
	return equalFold(rest[:name], q.section[:name]) && bytes.Equal(rest[name:len(q.section)], q.section[name:])
}

// equalFold compares two names of the same length without regard to the case of
// ASCII letters (RFC 4343). The lengths of labels, at most 63, are below all letters.
func equalFold(a, b []byte) bool {
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// notWilling reports whether a code says more about the upstream than about the
// question, so that the next one is asked, as a resolver with several lines in
// its resolv.conf does.
func notWilling(c dnsmessage.RCode) bool {
	return c == dnsmessage.RCodeServerFailure || c == dnsmessage.RCodeNotImplemented || c == dnsmessage.RCodeRefused
}

// rcodeOf and truncated read an answer that answeredBy has accepted.
func rcodeOf(answer []byte) dnsmessage.RCode { return dnsmessage.RCode(answer[3] & 0xf) }
func truncated(answer []byte) bool           { return answer[2]&2 != 0 }

// fit returns the answer as it is or, where it is longer than limit, with
// the truncation bit and without records (RFC 2181 §9): the client comes again
// over TCP. Only its OPT record stays (RFC 6891 §7), if that fits.
func (q question) fit(answer []byte, limit int) []byte {
	if len(answer) <= limit {
		return answer
	}
	var p dnsmessage.Parser
	h, err := p.Start(answer)
	if err != nil {
		return q.failure(serverFailure, "")
	}
	h.Truncated = true
	opt, options, ok := findOPT(answer)
	if !ok {
		opt, options = q.opt(h.RCode)
	}
	if q.edns {
		if out := build(h, q.section, &opt, options); len(out) <= limit {
			return out
		}
	}
	return build(h, q.section, nil, dnsmessage.OPTResource{})
}

// failure returns an answer that is podwire's own. The text is for clients that
// show extended errors (RFC 8914).
func (q question) failure(rcode dnsmessage.RCode, text string) []byte {
	h := dnsmessage.Header{
		ID: q.header.ID, Response: true, OpCode: q.header.OpCode, RCode: rcode,
		RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true,
		CheckingDisabled: q.header.CheckingDisabled,
	}
	if !q.edns {
		return build(h, q.section, nil, dnsmessage.OPTResource{})
	}
	opt, options := q.opt(rcode)
	if text != "" {
		data := binary.BigEndian.AppendUint16(nil, errorNetwork)
		options.Options = append(options.Options, dnsmessage.Option{Code: optionError, Data: append(data, text...)})
	}
	return build(h, q.section, &opt, options)
}

// opt is an OPT record of podwire's own.
func (q question) opt(rcode dnsmessage.RCode) (h dnsmessage.ResourceHeader, body dnsmessage.OPTResource) {
	_ = h.SetEDNS0(maxDatagram, rcode, q.dnssecOK) // it has no error to return
	return h, body
}

// build makes a message of a header, the question just as it was asked, and an OPT
// record where there is one.
func build(h dnsmessage.Header, section []byte, opt *dnsmessage.ResourceHeader, options dnsmessage.OPTResource) []byte {
	b := dnsmessage.NewBuilder(make([]byte, 0, headerLen+64), h)
	if opt != nil && b.StartAdditionals() == nil {
		_ = b.OPTResource(*opt, options) // on an error the message has none
	}
	record, err := b.Finish()
	if err != nil {
		panic("dnsforward: building a message without names: " + err.Error())
	}
	out := make([]byte, 0, len(record)+len(section))
	out = append(out, record[:headerLen]...)
	out = append(out, section...)
	out = append(out, record[headerLen:]...)
	if len(section) > 0 {
		binary.BigEndian.PutUint16(out[4:], 1)
	}
	return out
}
