package domxml

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// node is an element, or a comment or processing instruction, and where it
// stands in the text.
type node struct {
	name      string // empty for what is no element, or is in a namespace
	attrs     map[string]string
	content   strings.Builder // the text directly in it, decoded
	children  []*node
	start     int // of the start tag
	openEnd   int // after the start tag
	closeAt   int // at the end tag; openEnd where the element closes itself
	end       int // after all of it
	selfClose bool
}

// child returns the first child element of that name.
func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// all returns the child elements of that name.
func (n *node) all(name string) []*node {
	var out []*node
	for _, c := range n.children {
		if c.name == name {
			out = append(out, c)
		}
	}
	return out
}

// last returns where the last child ends, or the start tag where there is none.
func (n *node) last() int {
	if len(n.children) == 0 {
		return n.openEnd
	}
	return n.children[len(n.children)-1].end
}

const byteOrderMark = "\ufeff"

// parseDomain returns the <domain> element of a text.
func parseDomain(text string) (*node, error) {
	root, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("reading the domain: %w", err)
	}
	if root.name != "domain" {
		return nil, fmt.Errorf("reading the domain: the root element is not <domain>, but %s", openTag(text, root))
	}
	return root, nil
}

func openTag(text string, n *node) string {
	const enough = 40
	tag := strings.Join(strings.Fields(text[n.start:n.openEnd]), " ")
	if len(tag) > enough {
		tag = strings.ToValidUTF8(tag[:enough], "") + "..."
	}
	return tag
}

func parse(text string) (*node, error) {
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		return nil, encodingError("UTF-16")
	}
	base := 0
	if strings.HasPrefix(text, byteOrderMark) {
		base = len(byteOrderMark)
	}
	p := parser{base: base, text: text, d: xml.NewDecoder(strings.NewReader(text[base:]))}
	p.d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		if strings.EqualFold(charset, "us-ascii") {
			return in, nil
		}
		return nil, encodingError(charset)
	}
	return p.run()
}

type encodingError string

func (e encodingError) Error() string {
	return fmt.Sprintf("it is in %q, and must be in UTF-8 (iconv converts it)", string(e))
}

// Bounds of a domain, far above any that libvirt starts.
const (
	maxDepth = 256
	maxNodes = 100_000
)

type parser struct {
	nodes int
	d     *xml.Decoder
	text  string
	base  int
	root  *node
	open  []*node
}

func (p *parser) offset() int { return p.base + int(p.d.InputOffset()) }

func (p *parser) run() (*node, error) {
	for {
		start := p.offset()
		token, err := p.d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if e, ok := errors.AsType[encodingError](err); ok {
			return nil, e
		}
		if err != nil {
			return nil, err
		}
		if err := p.take(token, start); err != nil {
			return nil, err
		}
	}
	if p.root == nil {
		return nil, errors.New("it holds no element")
	}
	return p.root, nil
}

func (p *parser) take(token xml.Token, start int) error {
	switch t := token.(type) {
	case xml.StartElement:
		return p.begin(t, start)
	case xml.EndElement:
		n := p.open[len(p.open)-1]
		n.closeAt, n.end = start, p.offset()
		p.open = p.open[:len(p.open)-1]
	case xml.CharData:
		return p.chars(string(t))
	case xml.Directive:
		p.entities(string(t))
	case xml.Comment, xml.ProcInst:
		if p.nodes++; len(p.open) > 0 && p.nodes <= maxNodes {
			parent := p.open[len(p.open)-1]
			parent.children = append(parent.children, &node{start: start, end: p.offset()})
		}
	}
	return nil
}

func (p *parser) begin(t xml.StartElement, start int) error {
	if p.nodes++; len(p.open) >= maxDepth || p.nodes > maxNodes {
		return fmt.Errorf("want at most %d elements, in each other at most %d deep", maxNodes, maxDepth)
	}
	n := &node{start: start, openEnd: p.offset()}
	if len(t.Attr) > 0 {
		n.attrs = map[string]string{}
	}
	n.selfClose = strings.HasSuffix(p.text[:n.openEnd], "/>")
	if t.Name.Space == "" {
		n.name = t.Name.Local
	}
	for _, a := range t.Attr {
		if a.Name.Space == "" {
			if _, twice := n.attrs[a.Name.Local]; twice {
				line, _ := p.d.InputPos()
				return &xml.SyntaxError{Line: line, Msg: fmt.Sprintf("attribute %q is there twice", a.Name.Local)}
			}
			n.attrs[a.Name.Local] = a.Value
		}
	}
	switch {
	case len(p.open) > 0:
		parent := p.open[len(p.open)-1]
		parent.children = append(parent.children, n)
	case p.root != nil:
		return fmt.Errorf("it has a second root element, %s", openTag(p.text, n))
	default:
		p.root = n
	}
	p.open = append(p.open, n)
	return nil
}

func (p *parser) chars(s string) error {
	if len(p.open) > 0 {
		p.open[len(p.open)-1].content.WriteString(s)
		return nil
	}
	if strings.TrimSpace(s) != "" {
		return errors.New("it is not XML: there is text outside of the root element")
	}
	return nil
}

var entityDecl = regexp.MustCompile(`<!ENTITY\s+([^\s%"'<>]+)\s+(?:"([^"]*)"|'([^']*)')`)

// entities learns the names that a DOCTYPE declares, so that a reference to one
// is not taken for an error. What they stand for decides nothing here.
func (p *parser) entities(directive string) {
	for _, m := range entityDecl.FindAllStringSubmatch("<!"+directive, -1) {
		if p.d.Entity == nil {
			p.d.Entity = map[string]string{}
		}
		p.d.Entity[m[1]] = m[2] + m[3]
	}
}
