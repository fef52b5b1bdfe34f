package dnsforward

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

// set is a message with an octet changed.
func set(message []byte, at int, value byte) []byte {
	out := slices.Clone(message)
	out[at] = value
	return out
}

// typed is a question for a.test. of another type.
func typed(kind uint16) []byte {
	out := ask(1, "a.test.", 0)
	binary.BigEndian.PutUint16(out[len(out)-4:], kind)
	return out
}

func TestWhatAGuestMayAsk(t *testing.T) {
	plain := ask(0x0102, "a.test.", 0)
	dotted := slices.Concat(plain[:headerLen], []byte("\x0bMy. Printer\x04_ipp\x04_tcp\x04test\x00\x00\x10\x00\x01"))
	long := slices.Concat(plain[:headerLen], bytes.Repeat(append([]byte{63}, make([]byte, 63)...), 3), []byte{61}, make([]byte, 61), []byte{0, 0, 1, 0, 1})
	const silent = dnsmessage.RCode(0xffff)
	tests := []struct {
		name    string
		message []byte
		want    dnsmessage.RCode
	}{
		{"a question", plain, 0},
		{"a question with EDNS", ask(1, "a.test.", 1232), 0},
		{"a name with a dot in a label", dotted, 0},
		{"the root", ask(1, ".", 0), 0},
		{"a name of 255 octets", long, 0},
		{"any type", typed(65535), 0},
		{"an unknown opcode", set(plain, 2, 3<<3), 0},
		{"an update", set(plain, 2, 5<<3), 0},
		{"no question, for a cookie", set(plain, 5, 0)[:headerLen], 0},
		{"octets behind it", append(slices.Clone(plain), 1, 2, 3), 0},
		{"records that cannot be read", set(plain, 11, 9), 0},

		{"nothing", nil, silent},
		{"less than a header", plain[:headerLen-1], silent},
		{"a response", set(plain, 2, 0x80), silent},

		{"two questions", set(plain, 5, 2), dnsmessage.RCodeFormatError},
		{"many questions", set(plain, 4, 255), dnsmessage.RCodeFormatError},
		{"a question that is not there", plain[:headerLen], dnsmessage.RCodeFormatError},
		{"half a name", plain[:headerLen+3], dnsmessage.RCodeFormatError},
		{"no class", plain[:len(plain)-2], dnsmessage.RCodeFormatError},
		{"a pointer", slices.Concat(plain[:headerLen], []byte{0xc0, 12, 0, 1, 0, 1}), dnsmessage.RCodeFormatError},
		{"a reserved label", set(plain, headerLen, 0x41), dnsmessage.RCodeFormatError},
		{"a name of 256 octets", slices.Concat(long[:headerLen+192], []byte{62}, make([]byte, 62), []byte{0, 0, 1, 0, 1}), dnsmessage.RCodeFormatError},
		{"a stateful operation", set(plain, 2, 6<<3), dnsmessage.RCodeNotImplemented},
		{"a zone transfer", typed(252), dnsmessage.RCodeRefused},
		{"an incremental zone transfer", typed(251), dnsmessage.RCodeRefused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, rcode, ok := parse(tt.message)
			if !ok {
				rcode = silent
			}
			if rcode != tt.want {
				t.Fatalf("parse = %v, want %v", rcode, tt.want)
			}
			if rcode == 0 || !ok {
				return
			}
			// Such a message is answered without an upstream.
			r := New(Options{})
			h := header(t, r.answer(t.Context(), tt.message, true))
			want := dnsmessage.Header{ID: q.header.ID, Response: true, OpCode: q.header.OpCode, RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true, RCode: tt.want}
			if diff := cmp.Diff(want, h); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if r.Counts()["dns-rejected"] != 1 {
				t.Errorf("counts = %v", r.Counts())
			}
		})
	}
}

func TestWhatAnAnswerIs(t *testing.T) {
	const id = 0xbeef
	question := withID(ask(1, "A.test.", 0), id)
	answer := texts(1)(asked{message: question})
	empty := func(rcode byte) []byte { return []byte{0xbe, 0xef, 0x80, rcode, 0, 0, 0, 0, 0, 0, 0, 0} }
	tests := []struct {
		name    string
		message []byte
		want    bool
	}{
		{"the answer", answer, true},
		{"in other letters", set(answer, headerLen+1, 'a'), true},
		{"cut behind the question", answer[:len(question)], true},
		{"FORMERR without the question", empty(1), true},
		{"SERVFAIL without the question", empty(2), true},
		{"NOTIMP without the question", empty(4), true},
		{"REFUSED without the question", empty(5), true},
		{"success without the question", empty(0), false},
		{"NXDOMAIN without the question", empty(3), false},
		{"another id", withID(answer, id+1), false},
		{"a question", question, false},
		{"another opcode", set(answer, 2, 0x80|4<<3), false},
		{"another name", set(answer, headerLen+1, 'b'), false},
		{"another type", set(answer, len(question)-3, dnsmessageTypeTXT+32), false},
		{"another class", set(answer, len(question)-1, 3), false},
		{"two questions", set(answer, 5, 2), false},
		{"half of the question", answer[:len(question)-1], false},
		{"half of a header", answer[:headerLen-1], false},
		{"nothing", nil, false},
	}
	q, _, _ := parse(question)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := q.answeredBy(id, tt.message); got != tt.want {
				t.Errorf("answeredBy(%x) = %v, want %v", tt.message, got, tt.want)
			}
		})
	}
	t.Run("to a question without a question", func(t *testing.T) {
		q, _, _ := parse(set(question, 5, 0)[:headerLen])
		if !q.answeredBy(id, empty(0)) || q.answeredBy(id, answer) {
			t.Error("only an answer without a question is one")
		}
	})
	t.Run("to an update", func(t *testing.T) {
		q, _, _ := parse(set(question, 2, 5<<3))
		if !q.answeredBy(id, set(empty(0), 2, 0x80|5<<3)) {
			t.Error("an answer without its zone section is one")
		}
	})
}

// dnsmessageTypeTXT plus 32 is another type, and would be the same as a letter.
const dnsmessageTypeTXT = byte(dnsmessage.TypeTXT)

func TestTypesAreNotComparedAsLetters(t *testing.T) {
	q, _, _ := parse(typed('A')) // 65, HTTPS
	answer := set(typed('a'), 2, 0x80)
	if q.answeredBy(1, answer) {
		t.Error("an answer for type 97 was taken for type 65")
	}
}

// bigOPT is an answer of more than 512 octets whose OPT record has an extended
// code, the DO bit and options of the given length.
func bigOPT(t *testing.T, question []byte, length int) []byte {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(texts(6)(asked{message: question})); err != nil {
		t.Fatal(err)
	}
	var h dnsmessage.ResourceHeader
	_ = h.SetEDNS0(1400, 16, true) // BADVERS: 1 in the OPT record, 0 in the header
	m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{
		Options: []dnsmessage.Option{{Code: 10, Data: make([]byte, length)}},
	}}}
	out, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestATruncatedAnswerKeepsItsOPTRecord(t *testing.T) {
	question := ask(1, "a.test.", 512)
	q, _, _ := parse(question)
	want, options, _ := findOPT(bigOPT(t, question, 24))
	out := q.fit(bigOPT(t, question, 24), q.size)
	got, gotOptions, ok := findOPT(out)
	if !ok || got.Class != want.Class || got.TTL != want.TTL {
		t.Errorf("OPT = %v %+v, want %+v", ok, got, want)
	}
	if diff := cmp.Diff(options, gotOptions); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	if h := header(t, out); !h.Truncated || len(out) > 512 || !bytes.Equal(out[headerLen:headerLen+len(q.section)], q.section) {
		t.Errorf("truncated = %x", out)
	}
}

func TestAnOPTRecordThatDoesNotFitIsLeftOut(t *testing.T) {
	question := ask(1, "a.test.", 512)
	q, _, _ := parse(question)
	out := q.fit(bigOPT(t, question, 500), q.size)
	if want := append(set(question[:headerLen:headerLen], 11, 0), q.section...); len(out) != len(want) {
		t.Errorf("%d octets, want header and question, %d", len(out), len(want))
	}
	if !header(t, out).Truncated {
		t.Error("it is not truncated")
	}
}

func TestAClientWithoutEDNSGetsNoOPTRecord(t *testing.T) {
	q, _, _ := parse(ask(1, "a.test.", 0))
	for name, out := range map[string][]byte{
		"truncated": q.fit(bigOPT(t, ask(1, "a.test.", 0), 8), q.size), "failed": q.failure(serverFailure, "text"),
	} {
		if _, _, ok := findOPT(out); ok {
			t.Errorf("%s: it has one", name)
		}
	}
}

// FuzzGuest holds for any octets that a guest may send: no panic; silence for a
// response; else one answer, with the guest's id and question, that fits.
func FuzzGuest(f *testing.F) {
	plain := ask(1, "a.test.", 0)
	for _, m := range [][]byte{
		{},
		plain, ask(2, "long.test.", 1232), typed(252), set(plain, 2, 0x80), set(plain, 5, 0), set(plain, 5, 3),
		set(plain, 2, 6<<3), plain[:headerLen], append(slices.Clone(plain), 9, 9), texts(2)(asked{message: ask(1, "a.test.", 512)}),
	} {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		r := New(Options{})
		out := r.answer(t.Context(), message, true)
		if out == nil {
			if len(message) >= headerLen && message[2]&0x80 == 0 {
				t.Errorf("silence for %x", message)
			}
			return
		}
		h := header(t, out)
		if !h.Response || h.ID != binary.BigEndian.Uint16(message) || h.RCode == 0 || len(out) > plainSize {
			t.Errorf("%x is answered with %x", message, out)
		}
		q, rcode, _ := parse(message)
		if rcode == 0 && !bytes.Equal(out[headerLen:headerLen+len(q.section)], q.section) {
			t.Errorf("%x is answered without its question: %x", message, out)
		}
	})
}

// FuzzUpstream holds for any octets that an upstream may send: no panic, and what
// the guest gets of them has its question and is no longer than it takes.
func FuzzUpstream(f *testing.F) {
	for _, size := range []int{0, 512, 1232} {
		question := ask(1, "a.test.", size)
		for _, n := range []int{0, 1, 10, 50} {
			f.Add(question, texts(n)(asked{message: question}))
		}
	}
	f.Fuzz(func(t *testing.T, question, answer []byte) {
		q, rcode, ok := parse(question)
		if !ok || rcode != 0 || !q.answeredBy(q.header.ID, answer) {
			return
		}
		out := q.fit(answer, q.size)
		if len(out) > q.size || !q.answeredBy(q.header.ID, out) {
			t.Errorf("of %x, which answers %x, the guest gets %x", answer, question, out)
		}
		if len(answer) > q.size && !truncated(out) {
			t.Errorf("what is left of %x is not truncated: %x", answer, out)
		}
	})
}
