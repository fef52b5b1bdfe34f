package wiretext

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	tests := []struct{ name, wire string }{
		{"vm-0", "\x04vm-0"},
		{"vm-0.default.svc", "\x04vm-0\x07default\x03svc"},
	}
	for _, tt := range tests {
		if got := AppendName([]byte("kept"), tt.name); string(got) != "kept"+tt.wire {
			t.Errorf("%q was written as %q", tt.name, got)
		}
		for _, end := range []string{"", "\x00", "\x00\x03not"} {
			if got := Name([]byte(tt.wire + end)); got != tt.name {
				t.Errorf("%q was read as %q", tt.wire+end, got)
			}
		}
	}
}

// TestNamesGoAsFarAsTheyAreGood: nothing is followed, and nothing read twice.
func TestNamesGoAsFarAsTheyAreGood(t *testing.T) {
	tests := []struct{ name, wire, want string }{
		{"nothing", "", ""},
		{"a pointer", "\x02vm\xc0\x00", "vm"},
		{"a label beyond the end", "\x02vm\x05abc", "vm"},
		{"what could end a line in a log", "\x03a\nb", "a?b"},
	}
	for _, tt := range tests {
		if got := Name([]byte(tt.wire)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "udhcp 1.35", "udhcp 1.35"},
		{"a NUL at its end", "MSFT 5.0\x00", "MSFT 5.0"},
		{"escapes", "a\x1b[31mb", "a?[31mb"},
		{"beyond ASCII", "é", "?"},
		{"long", strings.Repeat("x", 300), strings.Repeat("x", Longest)},
	}
	for _, tt := range tests {
		if got := Printable(tt.in); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// FuzzName: whatever a guest calls itself is one short line of a log.
func FuzzName(f *testing.F) {
	f.Add([]byte("\x04vm-0\x07default\x00"))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := Name(b)
		if len(got) > Longest || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q was read as %q", b, got)
		}
	})
}
