package dhcp4

import "math"

// fit settles how much of each option is sent, and in which areas, so that the
// options take no more than room. What can be had without loss is tried first:
// names that share their endings, then the areas of sname and file.
func (m *message) fit(room int) (overload, [3]area) {
	if areas, ok := m.write(overloadNone, room); ok {
		return overloadNone, areas
	}
	m.search = encodeSearch(m.lease.Search, true)
	how, areas, ok := m.writeAnyhow(room)
	if !ok {
		m.cut(room)
		how, areas, _ = m.writeAnyhow(room)
	}
	return how, areas
}

// writeAnyhow writes with the least overloading that does.
func (m *message) writeAnyhow(room int) (how overload, areas [3]area, ok bool) {
	for _, how := range overloads {
		if areas, ok := m.write(how, room); ok {
			return how, areas, true
		}
	}
	return overloadNone, areas, false
}

// never are the options that are never left out. The least room there is, 59
// octets, holds them.
var never = []uint8{optMessageType, optServerID, optLeaseTime, optMask, optRouter, optRapidCommit}

// all is how far an option goes that is wanted as a whole.
const all = math.MaxInt32

// cut leaves out what does not fit: it empties the message but for what is never
// left out, and takes the rest back in by importance, each as far as it goes.
func (m *message) cut(room int) {
	m.kept = [256]int{}
	for _, code := range never {
		m.kept[code] = m.full[code]
	}
	routes := m.routesCode()
	for _, want := range []struct {
		code uint8
		to   int
	}{
		{optClientID, all}, // RFC 6842: a client may refuse an answer without it
		{routes, m.essentials},
		{optDNS, 1},
		{optMTU, all},
		{optMessage, all},
		{optBootFile, all},
		{optTFTPServer, all},
		{routes, all},
		{optDNS, all},
		{optHostname, all},
		{optDomain, all},
		{optRenewal, all},
		{optRebinding, all},
	} {
		m.raise(want.code, want.to, room)
	}
	for code := uint8(optPrivateFirst); code <= optPrivateLast; code++ {
		if code != optRoutesWindows {
			m.raise(code, all, room)
		}
	}
	for _, code := range []uint8{optBroadcast, optNTP, optSearch, optRoutesWindows} {
		m.raise(code, all, room)
	}
}

// raise keeps more of an option, up to so many items, as far as there is room.
func (m *message) raise(code uint8, to, room int) {
	least := 1
	if code == m.routesCode() {
		// Without the default route, classless routes do harm: a client that
		// gets some must not look at option 3 (RFC 3442).
		least = max(least, m.essentials)
	}
	fits, above := max(m.kept[code], least-1), min(to, m.full[code])+1
	for above-fits > 1 {
		m.kept[code] = (fits + above) / 2
		if _, _, ok := m.writeAnyhow(room); ok {
			fits = m.kept[code]
		} else {
			above = m.kept[code]
		}
	}
	if fits < least {
		fits = 0
	}
	m.kept[code] = fits
}
