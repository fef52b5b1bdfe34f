package domxml

import (
	"slices"
	"strings"
)

// layout is how a text sets its elements: on lines of their own and how far in,
// or all in a row.
type layout struct {
	lines   bool
	newline string
	indent  string // of the children
	unit    string // of each level below them
}

// margin returns the whitespace that the line of an offset begins with, and whether
// there is nothing else before the offset.
func margin(text string, at int) (string, bool) {
	line := text[strings.LastIndexByte(text[:at], '\n')+1 : at]
	rest := strings.TrimLeft(line, " \t")
	return line[:len(line)-len(rest)], rest == ""
}

// layoutIn tells how the children of an element are set, or would be.
func layoutIn(text string, n *node) layout {
	l := layout{newline: "\n", unit: "  "}
	if strings.Contains(text, "\r\n") {
		l.newline = "\r\n"
	}
	own, ownLine := margin(text, n.start)
	for _, c := range slices.Backward(n.children) {
		if l.indent, l.lines = margin(text, c.start); !l.lines {
			continue
		}
		if unit, deeper := strings.CutPrefix(l.indent, own); ownLine && deeper && unit != "" {
			l.unit = unit
		}
		return l
	}
	if len(n.children) > 0 {
		return l
	}
	l.lines = ownLine
	if len(own) > 0 && strings.Trim(own, "\t") == "" {
		l.unit = "\t"
	}
	l.indent = own + l.unit
	return l
}

// set returns elements in this layout, to stand after what is there. They come
// in lines that are indented by two spaces a level.
func (l layout) set(elements []string) string {
	var b strings.Builder
	for _, e := range elements {
		for line := range strings.Lines(e) {
			line = strings.TrimRight(line, "\n")
			bare := strings.TrimLeft(line, " ")
			if l.lines {
				b.WriteString(l.newline + l.indent)
				b.WriteString(strings.Repeat(l.unit, (len(line)-len(bare))/2))
			}
			b.WriteString(bare)
		}
	}
	return b.String()
}

// indent sets elements one level deeper, each line ended.
func indent(elements []string) string {
	var b strings.Builder
	for _, e := range elements {
		for line := range strings.Lines(e) {
			b.WriteString("  " + strings.TrimRight(line, "\n") + "\n")
		}
	}
	return b.String()
}
