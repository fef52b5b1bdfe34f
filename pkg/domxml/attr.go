package domxml

import "strings"

// span is a part of a text.
type span struct{ from, to int }

// attrSpans is where an attribute stands in a start tag: as a whole, with the
// space before it, and its value between the quotes.
type attrSpans struct{ whole, value span }

const spaces = " \t\r\n"

// tagName returns the name in a start tag, with its prefix.
func tagName(tag string) string {
	name := strings.TrimPrefix(tag, "<")
	if i := strings.IndexAny(name, spaces+"/>"); i >= 0 {
		name = name[:i]
	}
	return name
}

// findAttr finds an attribute in the text of a start tag, which has been parsed
// as XML before.
func findAttr(tag, name string) (attrSpans, bool) {
	at := len("<" + tagName(tag))
	for {
		from := at
		rest := strings.TrimLeft(tag[at:], spaces)
		eq := strings.IndexByte(rest, '=')
		if eq < 0 {
			return attrSpans{}, false
		}
		found := strings.TrimRight(rest[:eq], spaces)
		quoted := strings.TrimLeft(rest[eq+1:], spaces)
		if quoted == "" {
			return attrSpans{}, false
		}
		value := len(tag) - len(quoted) + 1
		length := strings.IndexByte(tag[value:], quoted[0])
		if length < 0 {
			return attrSpans{}, false
		}
		at = value + length + 1
		if found == name {
			return attrSpans{whole: span{from, at}, value: span{value, value + length}}, true
		}
	}
}

// attr sets an attribute. The value must need no escaping.
func (e *editor) attr(n *node, name, value string) {
	if n.attrs[name] == value {
		return
	}
	tag := e.text[n.start:n.openEnd]
	if at, ok := findAttr(tag, name); ok {
		e.replace(n.start+at.value.from, n.start+at.value.to, value)
		return
	}
	at := n.start + len("<"+tagName(tag))
	e.replace(at, at, " "+name+"='"+value+"'")
}

// dropAttr takes an attribute away.
func (e *editor) dropAttr(n *node, name string) {
	if at, ok := findAttr(e.text[n.start:n.openEnd], name); ok {
		e.replace(n.start+at.whole.from, n.start+at.whole.to, "")
	}
}
