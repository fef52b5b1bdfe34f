package domxml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/podwire/podwire/pkg/plan"
)

// Put returns the domain with an element for each interface in it.
//
// An <interface> whose <target dev> is one of the taps is taken to be the user's
// wish for that interface, and is completed where it stands. podwire owns its
// type, <mac>, <target>, <mtu> and the queues of its <driver>, and removes
// <source> and <virtualport>, which belong to other types. The rest is the
// user's and stays: <address>, <boot>, <model>, <alias>, <rom>, the other
// attributes of <driver>, filters, bandwidth, comments. An interface that has no
// such element gets one after all other devices.
//
// The option ROM is left alone where the interface or the domain boots from the
// network.
func Put(domain string, interfaces []plan.Interface) (string, error) {
	root, err := parseDomain(domain)
	if err != nil {
		return "", err
	}
	e := editor{text: domain}
	var added []string
	taps := map[string]bool{}
	for _, i := range interfaces {
		if taps[i.Tap] {
			return "", fmt.Errorf("putting interface %q into the domain: tap %q is already another's", i.PodInterface, i.Tap)
		}
		taps[i.Tap] = true
		element, err := e.put(root, i)
		if err != nil {
			return "", fmt.Errorf("putting interface %q into the domain: %w", i.PodInterface, err)
		}
		if element != "" {
			added = append(added, element)
		}
	}
	e.addDevices(root, added)
	return e.result(), nil
}

// editor collects what is to be spliced into a text. Edits do not overlap.
type editor struct {
	text  string
	edits []edit
}

type edit struct {
	from, to int
	with     string
}

func (e *editor) replace(from, to int, with string) {
	if e.text[from:to] != with {
		e.edits = append(e.edits, edit{from, to, with})
	}
}

func (e *editor) result() string {
	slices.SortStableFunc(e.edits, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	var b strings.Builder
	at := 0
	for _, d := range e.edits {
		b.WriteString(e.text[at:d.from] + d.with)
		at = d.to
	}
	b.WriteString(e.text[at:])
	return b.String()
}

// put completes the element for an interface, or returns the one to add.
func (e *editor) put(root *node, i plan.Interface) (string, error) {
	if err := validate(i); err != nil {
		return "", err
	}
	have, err := find(root, i.Tap)
	if err != nil {
		return "", err
	}
	want := device(i)
	if bootsFromNetwork(root, have) {
		want.ROM = nil
	}
	text, err := want.Marshal()
	if err != nil {
		return "", err
	}
	text = libvirtStyle(text)
	if have == nil {
		return text, nil
	}
	return "", e.complete(have, text, i)
}

// find returns the interface with this tap.
func find(root *node, tap string) (*node, error) {
	var found *node
	for _, devices := range root.all("devices") {
		for _, n := range devices.all("interface") {
			if t := n.child("target"); t == nil || t.attrs["dev"] != tap {
				continue
			}
			if found != nil {
				return nil, fmt.Errorf("two of the domain's interfaces have the target %q", tap)
			}
			found = n
		}
	}
	return found, nil
}

// bootsFromNetwork reports whether the firmware needs the card's option ROM.
func bootsFromNetwork(root, iface *node) bool {
	if iface != nil && iface.child("boot") != nil {
		return true
	}
	for _, os := range root.all("os") {
		for _, boot := range os.all("boot") {
			if boot.attrs["dev"] == "network" {
				return true
			}
		}
	}
	return false
}

// complete edits the user's element so that it says what want says wherever
// podwire is the one to say it.
func (e *editor) complete(have *node, want string, i plan.Interface) error {
	if err := e.queues(have, i.Queues); err != nil {
		return err
	}
	ours, err := parse(want)
	if err != nil {
		return err
	}
	e.attr(have, "type", "ethernet")
	e.remove(have, "source", "virtualport")
	var missing []string
	for _, c := range ours.children {
		text := want[c.start:c.end]
		theirs := have.child(c.name)
		switch {
		case theirs == nil:
			missing = append(missing, text)
		case c.name == "mac", c.name == "target", c.name == "mtu":
			e.replace(theirs.start, theirs.end, text)
		}
	}
	// have holds a target at least, so it has an end tag and a last child.
	at := have.last()
	e.replace(at, at, layoutIn(e.text, have).set(missing))
	return nil
}

// queues makes the element open the tap with as many queues as it has: the
// kernel refuses any other way.
func (e *editor) queues(have *node, queues int) error {
	if m := have.child("model"); m != nil && queues > 1 && !strings.HasPrefix(m.attrs["type"], "virtio") {
		return fmt.Errorf("a card of model %q cannot have %d queues; give the tap one, or the card the model virtio",
			m.attrs["type"], queues)
	}
	driver := have.child("driver")
	if driver == nil {
		return nil
	}
	if queues > 1 {
		e.attr(driver, "queues", fmt.Sprint(queues))
	} else {
		e.dropAttr(driver, "queues")
	}
	return nil
}

// remove takes children out, with the whitespace before them.
func (e *editor) remove(n *node, names ...string) {
	prev := n.openEnd
	for _, c := range n.children {
		if c.name != "" && slices.Contains(names, c.name) {
			before := strings.TrimRight(e.text[prev:c.start], " \t\r\n")
			e.replace(prev+len(before), c.end, "")
		}
		prev = c.end
	}
}

// addDevices adds elements to <devices>, which is made where it is missing.
func (e *editor) addDevices(root *node, elements []string) {
	if len(elements) == 0 {
		return
	}
	if devices := root.child("devices"); devices != nil {
		e.add(devices, elements)
		return
	}
	e.add(root, []string{"<devices>\n" + indent(elements) + "</devices>"})
}

// add adds elements after an element's last child.
func (e *editor) add(n *node, elements []string) {
	l := layoutIn(e.text, n)
	added := l.set(elements)
	own, _ := margin(e.text, n.start)
	if n.selfClose {
		name := tagName(e.text[n.start:n.openEnd])
		if l.lines {
			added += l.newline + own
		}
		e.replace(n.openEnd-len("/>"), n.openEnd, ">"+added+"</"+name+">")
		return
	}
	at := n.last()
	if l.lines && !strings.Contains(e.text[at:n.closeAt], "\n") {
		added += l.newline + own
	}
	e.replace(at, at, added)
}
