package dhcp4

// putPieces splits a long option (RFC 3396 §6). The pieces stand in the order in
// which the areas are read: options, file, sname.
//
// The RFC lets a piece end anywhere, for a client is to join them before it reads
// the value. Some do not, and read each piece by itself (systemd-networkd 252
// makes wrong routes of a torn one). So a piece ends where an item of the list
// does, which says the same to both.
func putPieces(areas *[3]area, code uint8, v []byte) bool {
	for i := range areas {
		a := &areas[i]
		for len(v) > 0 {
			n := wholeItems(code, v, min(longestOption, a.max-len(a.data)-2))
			if n <= 0 {
				break
			}
			a.data = append(append(a.data, code, byte(n)), v[:n]...)
			v = v[n:]
		}
	}
	return len(v) == 0
}

// wholeItems returns how many octets of v, at most room, hold as many whole items
// as there is room for. An item that is longer than any piece is torn.
func wholeItems(code uint8, v []byte, room int) int {
	n := 0
	for n < len(v) {
		item := itemLen(code, v[n:])
		if n+item > room {
			break
		}
		n += item
	}
	if n == 0 && itemLen(code, v) > longestOption {
		return min(room, len(v))
	}
	return n
}

// itemLen returns the length of the first item of an option's value; that of the
// whole value where it is no list.
func itemLen(code uint8, v []byte) int {
	n := len(v)
	switch code {
	case optDNS, optNTP:
		n = 4
	case optRoutes, optRoutesWindows: // RFC 3442: the width, its significant octets, the router
		n = 1 + (int(v[0])+7)/8 + 4
	case optSearch:
		n = nameLen(v)
	}
	return min(n, len(v))
}

// nameLen returns the length of the first name of a list: labels up to the empty
// one, or up to a pointer (RFC 1035 §4.1.4).
func nameLen(v []byte) int {
	n := 0
	for n < len(v) && v[n] != 0 {
		if v[n] >= 0xc0 {
			return n + 2
		}
		n += 1 + int(v[n])
	}
	return n + 1
}
