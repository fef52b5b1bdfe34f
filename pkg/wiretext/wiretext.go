// Package wiretext reads and writes the names and texts in messages of DHCP, DNS
// and router advertisements: domain names as labels (RFC 1035 §3.1), and what a
// guest calls itself, made harmless for a log.
//
// It follows and writes no pointers: none of those messages but DHCPv4's search
// list allows them. Whether a name is a good one it does not say: that is
// resolvconf.Domain's to judge.
package wiretext

import "strings"

// Longest is how much of a guest's text is kept, in octets.
const Longest = 255

// AppendName appends a name's labels, without the empty one that ends a full name.
func AppendName(b []byte, name string) []byte {
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return b
}

// Name reads labels as far as they go, harmless for a log. A name without its last,
// empty label is a partial one (RFC 4704 §4.2).
func Name(b []byte) string {
	var labels []string
	for len(b) > 0 && b[0] > 0 && b[0] <= 63 && int(b[0]) < len(b) {
		n := 1 + int(b[0])
		labels = append(labels, string(b[1:n]))
		b = b[n:]
	}
	return Printable(strings.Join(labels, "."))
}

// Printable makes text from the guest harmless: what it sends is up to it.
func Printable(s string) string {
	s = s[:min(len(s), Longest)]
	return strings.TrimRight(strings.Map(func(r rune) rune {
		switch {
		case r == 0:
			return ' ' // some clients end their text with a NUL
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s), " ")
}
