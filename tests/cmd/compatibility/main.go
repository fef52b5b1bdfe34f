// The program compatibility makes docs/compatibility.md of what the two matrices
// saw in one run: which pod networks and which DHCP clients work.
//
//	compatibility DIR >docs/compatibility.md
//
// DIR holds cni.json and clients.json, which the tests in tests/matrix and
// tests/clients leave there.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/podwire/podwire/tests/page"
)

// cell is one pod network in one family, with one binding, as tests/matrix writes it.
type cell struct {
	Layout  string `json:"layout"`
	Family  string `json:"family"`
	Binding string `json:"binding"`
	Result  string `json:"result"`
	Reason  string `json:"reason"`
	Client  string `json:"client"`
	Guest   bool   `json:"libvirt"`
}

// row is one client in one family, with one binding, as tests/clients writes it.
type row struct {
	Client  string            `json:"client"`
	Version string            `json:"version"`
	Family  string            `json:"family"`
	Binding string            `json:"binding"`
	Columns map[string]string `json:"columns"`
	Cannot  map[string]string `json:"cannot"`
}

// What the two call a cell that failed, one that there cannot be, and the binding that
// everything runs on.
const (
	failed = "FAILED"
	absent = "-"
	bridge = "bridge"
)

// families, others and columns are in the order of the page; a column is headed by its
// second name.
var (
	families = []string{"IPv4", "IPv6", "dual"}
	others   = []string{"tc", "masquerade"} // bindings
	columns  = [][2]string{
		{"address", "address"},
		{"prefix", "prefix"},
		{"default", "default route"},
		{"routes", "further routes"},
		{"dns", "DNS"},
		{"search", "search list"},
		{"mtu", "MTU"},
		{"hostname", "host name"},
	}
)

func main() { page.Main(run) }

func run(dir string, w io.Writer) error {
	var cells []cell
	var rows []row
	if err := errors.Join(page.ReadJSON(filepath.Join(dir, "cni.json"), &cells), page.ReadJSON(filepath.Join(dir, "clients.json"), &rows)); err != nil {
		return err
	}
	if err := errors.Join(passed(cells), told(rows)); err != nil {
		return fmt.Errorf("%w: a page is made of a run that passed", err)
	}
	var notes notes
	text := fmt.Sprintf(head, page.Kernel(), distribution()) +
		networks(cells, &notes) + notes.list() + clientsHead
	notes = nil
	text += clients(rows, &notes) + notes.list()
	_, err := io.WriteString(w, text)
	return err
}

func passed(cells []cell) error {
	for _, c := range cells {
		if c.Result == failed {
			return fmt.Errorf("%s, %s, %s failed", c.Layout, c.Family, c.Binding)
		}
	}
	return nil
}

// told also holds that a client shows the same with every binding: the page has one row
// for them.
func told(rows []row) error {
	for _, r := range rows {
		i := slices.IndexFunc(rows, r.sameClient)
		for column, text := range r.Columns {
			switch {
			case text == failed:
				return fmt.Errorf("%s, %s, %s failed", r.Client, r.Family, r.Binding)
			case rows[i].Columns[column] != text:
				return fmt.Errorf("%s, %s: %s of %s is %q, and of %s %q", r.Client, r.Family, column, r.Binding, text, rows[i].Binding, rows[i].Columns[column])
			}
		}
	}
	return nil
}

func (r row) sameClient(o row) bool { return r.Client == o.Client && r.Family == o.Family }

const head = `# Compatibility

Made by ` + "`make compatibility`" + ` from a run of ` + "`make matrix`" + `; not to be edited by hand.
This run: Linux %s, %s.

## Pod networks

bridge, ptp, flannel, macvlan and ipvlan are the real CNI plugins, with host-local; the
layouts of Calico, Cilium, the AWS VPC CNI and OVN-Kubernetes are made by hand, as
those leave a pod and its node. The rows from "gateway outside the prefix" on are
oddities that plugins and administrators make.

In each cell the VM's pod is wired; a guest with a real DHCP client reaches, in each
family, the gateway, a pod on the same node, a pod behind a route and a service
address, and is reached from both pods, with the pod's own address at either end; then
the pod is put back, and is what it was to the letter. **VM**: a guest of libvirt's did
so, too.

The columns IPv4, IPv6 and dual are those of the binding bridge. With tc and masquerade
pods have both families, or each alone where the network has no pods with both; bridge,
ptp and Calico are tried with each alone as well.

`

const clientsHead = `
## DHCP clients

What each client took over from podwire, as that client shows it, with each of the
bindings that are named. (With masquerade a guest has an address, a prefix and a default
route of its own, and is to have no further routes.)

`

// networks is the table of pod networks.
func networks(cells []cell, n *notes) string {
	var out strings.Builder
	heads := slices.Concat(families, others)
	out.WriteString("| pod network | " + strings.Join(heads, " | ") + " |\n|---|" + strings.Repeat("---|", len(heads)) + "\n")
	for _, layout := range order(cells, func(c cell) string { return c.Layout }) {
		out.WriteString("| " + layout)
		for _, family := range families {
			out.WriteString(" | " + merged(cells, n, func(c cell) bool { return c.Layout == layout && c.Binding == bridge && c.Family == family }))
		}
		for _, binding := range others {
			// That there is no such pod at all, the first columns say.
			exists := func(c cell) bool { return c.Layout == layout && c.Binding == binding && !missing(cells, c) }
			out.WriteString(" | " + merged(cells, n, exists))
		}
		out.WriteString(" |\n")
	}
	return out.String()
}

// missing reports whether a cell is not there because another of its layout is there in
// its place.
func missing(cells []cell, c cell) bool {
	return c.Result == absent && slices.ContainsFunc(cells, func(o cell) bool {
		return o.Layout == c.Layout && o.Binding == c.Binding && o.Result != absent
	})
}

// merged is the text of the cells that a function picks: of each family by itself, if
// they are not all the same.
func merged(cells []cell, n *notes, pick func(cell) bool) string {
	var texts, named []string
	guest := ""
	for _, c := range cells {
		if !pick(c) {
			continue
		}
		text := c.Result + n.mark(c.Reason)
		texts, named = append(texts, text), append(named, c.Family+" "+text)
		if c.Guest {
			guest = ", VM"
		}
	}
	switch texts = slices.Compact(texts); len(texts) {
	case 0:
		return " "
	case 1:
		return texts[0] + guest
	default:
		return strings.Join(named, ", ") + guest
	}
}

// clients is the table of clients.
func clients(rows []row, n *notes) string {
	var out strings.Builder
	out.WriteString("| client | family |")
	for _, column := range columns {
		out.WriteString(" " + column[1] + " |")
	}
	out.WriteString(" bindings |\n|---|---|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for i, r := range rows {
		if slices.IndexFunc(rows, r.sameClient) != i {
			continue
		}
		name := r.Client
		switch {
		case name == "kernel":
			name += " " + page.Kernel()
		case r.Version != "":
			name += " " + strings.TrimPrefix(r.Version, "v")
		}
		out.WriteString("| " + name + " | " + r.Family)
		for _, column := range columns {
			out.WriteString(" | " + r.Columns[column[0]] + n.mark(r.Cannot[column[0]]))
		}
		var bindings []string
		for _, o := range rows {
			if r.sameClient(o) {
				bindings = append(bindings, o.Binding)
			}
		}
		out.WriteString(" | " + strings.Join(bindings, ", ") + " |\n")
	}
	return out.String()
}

// notes are the reasons below a table, each once.
type notes []string

// mark returns the sign of a reason, which is nothing without one.
func (n *notes) mark(reason string) string {
	reason, _, _ = strings.Cut(reason, "\n")
	if reason == "" {
		return ""
	}
	i := slices.Index(*n, reason)
	if i < 0 {
		i = len(*n)
		*n = append(*n, reason)
	}
	return fmt.Sprintf(" (%d)", i+1)
}

func (n notes) list() string {
	var out strings.Builder
	for i, reason := range n {
		if i == 0 {
			out.WriteString("\n")
		}
		fmt.Fprintf(&out, "%d. %s\n", i+1, reason)
	}
	return out.String()
}

// order returns what each value is called, each once, in order.
func order[T any](all []T, name func(T) string) []string {
	var out []string
	for _, v := range all {
		if !slices.Contains(out, name(v)) {
			out = append(out, name(v))
		}
	}
	return out
}

func distribution() string {
	text, _ := os.ReadFile("/etc/os-release") // or nothing is known
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(name), `"`)
		}
	}
	return "an unknown distribution"
}
