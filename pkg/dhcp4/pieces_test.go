package dhcp4

import (
	"bytes"
	"testing"
)

func TestWholeItems(t *testing.T) {
	routes := bytes.Repeat([]byte{24, 172, 20, 1, 10, 0, 0, 1}, 40)
	mixed := append([]byte{0, 10, 0, 0, 1, 32, 169, 254, 1, 1, 0, 0, 0, 0}, routes...)
	names := bytes.Repeat([]byte("\x01a\x07example\x00"), 30)
	pointed := append([]byte("\x01a\x07example\x00"), bytes.Repeat([]byte{1, 'b', 0xc0, 2}, 80)...)
	tests := []struct {
		name string
		code uint8
		v    []byte
		room int
		want int
	}{
		{"routes end at a route", optRoutes, routes, 255, 31 * 8},
		{"so do those of Microsoft's number", optRoutesWindows, routes, 255, 31 * 8},
		{"of several lengths", optRoutes, mixed, 255, 14 + 30*8},
		{"addresses end at an address", optDNS, make([]byte, 400), 255, 252},
		{"names end at a name", optSearch, names, 255, 23 * 11},
		{"also behind a pointer", optSearch, pointed, 255, 11 + 61*4},
		{"what fits is whole", optRoutes, routes[:80], 255, 80},
		{"no room for one", optRoutes, routes, 7, 0},
		{"no room at all", optRoutes, routes, -2, 0},
		{"a text may be torn", optClientID, make([]byte, 300), 255, 255},
		{"an item longer than a piece is torn", optSearch, bytes.Repeat([]byte("\x3f"+string(bytes.Repeat([]byte("x"), 63))), 5), 255, 255},
		{"a value that ends early", optRoutes, []byte{24, 172}, 255, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := wholeItems(tt.code, tt.v, tt.room); got != tt.want {
				t.Errorf("%d octets, want %d", got, tt.want)
			}
		})
	}
}

// TestPiecesStandAlone: a client that reads each piece of option 121 by itself
// comes to the same routes as one that joins them.
func TestPiecesStandAlone(t *testing.T) {
	var areas [3]area
	areas[0].max = 4096
	routes := bytes.Repeat([]byte{24, 172, 20, 1, 10, 0, 0, 1, 0, 10, 0, 0, 1}, 60)
	if !putPieces(&areas, optRoutes, routes) {
		t.Fatal("no room")
	}
	var joined []byte
	for rest := areas[0].data; len(rest) > 0; {
		n := int(rest[1])
		piece := rest[2 : 2+n]
		joined, rest = append(joined, piece...), rest[2+n:]
		for len(piece) > 0 {
			item := 1 + (int(piece[0])+7)/8 + 4
			if item > len(piece) {
				t.Fatalf("a route is torn: %x", piece)
			}
			piece = piece[item:]
		}
	}
	if !bytes.Equal(joined, routes) {
		t.Error("the joined pieces are not the value")
	}
}
