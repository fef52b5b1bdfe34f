package dhcp4

import "strings"

const (
	longestName  = 253    // RFC 1035 §2.3.4, without the root's label
	longestLabel = 63     // the same
	farthest     = 0x3fff // RFC 1035 §4.1.4: a pointer has 14 bits
)

// searchList is a search list in the form of option 119 (RFC 3397).
type searchList struct {
	data []byte
	ends []int // where each name ends: what comes before is a list by itself
}

// encodeSearch encodes the names in order and passes over what is no name.
//
// compress has names share their endings by pointers (RFC 1035 §4.1.4). A pointer
// only ever goes to a name that was written out, for there are clients that
// follow one and not the next.
func encodeSearch(names []string, compress bool) searchList {
	var s searchList
	written := map[string]int{} // endings that a pointer can go to
	for _, name := range names {
		if !isName(name) {
			continue
		}
		s.add(name, written, compress)
		s.ends = append(s.ends, len(s.data))
	}
	return s
}

func (s *searchList) add(name string, written map[string]int, compress bool) {
	var endings []string
	var at []int
	for rest := name; rest != ""; {
		if off, ok := written[rest]; ok && compress {
			s.data = append(s.data, 0xc0|byte(off>>8), byte(off))
			return
		}
		if compress && len(s.data) <= farthest {
			endings, at = append(endings, rest), append(at, len(s.data))
		}
		label, after, _ := strings.Cut(rest, ".")
		s.data = append(s.data, byte(len(label)))
		s.data = append(s.data, label...)
		rest = after
	}
	s.data = append(s.data, 0)
	for i, ending := range endings {
		if _, ok := written[ending]; !ok {
			written[ending] = at[i]
		}
	}
}

// isName reports whether a name can be sent as a host or domain name: labels of
// the usual characters, with the underscore that clusters use. What else a lease
// may hold would make some client throw the whole answer away.
func isName(name string) bool {
	if name == "" || len(name) > longestName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > longestLabel || strings.ContainsFunc(label, notInName) {
			return false
		}
	}
	return true
}

func notInName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}
