package domxml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/podwire/podwire/pkg/config"
)

// Put returns the domain with an element for each device in it.
//
// An <interface> whose <target dev> is one of the taps is taken to be the user's
// wish for that interface, and is completed where it stands. podwire owns its
// type, <mac>, <target>, <mtu> and the queues of its <driver>, and removes
// <source> and <virtualport>, which belong to other types. What a Card says is set.
// The rest is the user's and stays: <address>, <boot>, <model>, <alias>, <rom>, the
// other attributes of <driver>, filters, bandwidth, comments. An interface that has
// no such element gets one after all other devices.
//
// The option ROM is left alone where the interface or the domain boots from the
// network.
//
// It is an error where the domain would contradict itself: where a card has more
// queues than its model can, or the PCI address of another device.
func Put(domain string, devices []Device) (string, error) {
	root, err := parseDomain(domain)
	if err != nil {
		return "", err
	}
	e := editor{text: domain}
	cards, err := findAll(root, devices)
	if err != nil {
		return "", err
	}
	if err := e.unclash(root, devices, cards); err != nil {
		return "", err
	}
	var added []string
	for i, d := range devices {
		element, err := e.put(root, cards[i], d)
		if err != nil {
			return "", d.putting(err)
		}
		if element != "" {
			added = append(added, element)
		}
	}
	e.addDevices(root, added)
	return e.result(), nil
}

// putting says what an error stood in the way of.
func (d Device) putting(err error) error {
	return fmt.Errorf("putting interface %q into the domain: %w", d.PodInterface, err)
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

// put completes the element of a device, or returns the one to add.
func (e *editor) put(root, have *node, d Device) (string, error) {
	if err := validate(d.Interface); err != nil {
		return "", err
	}
	if err := d.validate(d.modelIn(have), d.Queues); err != nil {
		return "", err
	}
	want, err := d.device()
	if err != nil {
		return "", err
	}
	if bootsFromNetwork(root, have) {
		want.ROM = nil
	}
	text, err := marshal(want)
	if err != nil || have == nil {
		return text, err
	}
	return "", e.complete(have, text, d)
}

// modelIn is the model that the card has in the end.
func (d Device) modelIn(have *node) string {
	if d.Model == "" && have != nil {
		if m := have.child("model"); m != nil {
			return m.attrs["type"]
		}
	}
	return d.model()
}

// findAll returns the element of each device, nil where it has none.
func findAll(root *node, devices []Device) ([]*node, error) {
	taps := map[string]bool{}
	cards := make([]*node, len(devices))
	for i, d := range devices {
		if taps[d.Tap] {
			return nil, d.putting(fmt.Errorf("tap %q is already another's", d.Tap))
		}
		taps[d.Tap] = true
		var err error
		if cards[i], err = find(root, d.Tap); err != nil {
			return nil, d.putting(err)
		}
	}
	return cards, nil
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
func (e *editor) complete(have *node, want string, d Device) error {
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
		case c.name == "model" && d.Model != "":
			e.attr(theirs, "type", d.Model)
		case c.name == "address":
			e.address(theirs, c, text)
		}
	}
	if driver := have.child("driver"); driver != nil {
		e.driver(driver, d)
	}
	// have holds a target at least, so it has an end tag and a last child.
	at := have.last()
	e.replace(at, at, layoutIn(e.text, have).set(missing))
	return nil
}

// driver makes the element open the tap with as many queues as it has: the kernel
// refuses any other way. A macvtap opens in as many as it is asked for.
func (e *editor) driver(driver *node, d Device) {
	if name := drivers[d.Vhost]; name != "" {
		e.attr(driver, "name", name)
	}
	switch {
	case d.Queues > 1:
		e.attr(driver, "queues", fmt.Sprint(d.Queues))
	case d.Binding != config.Macvtap:
		e.dropAttr(driver, "queues")
	}
}

// address sets where the card is, and keeps what else is said of a PCI address,
// such as multifunction.
func (e *editor) address(theirs, ours *node, text string) {
	if theirs.attrs["type"] != "pci" {
		e.replace(theirs.start, theirs.end, text)
		return
	}
	for _, part := range []string{"domain", "bus", "slot", "function"} {
		e.attr(theirs, part, ours.attrs[part])
	}
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
