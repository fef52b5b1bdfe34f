// The program compatibility makes docs/compatibility.md of what the two matrices
// saw in one run: which pod networks and which DHCP clients work.
//
//	compatibility DIR >docs/compatibility.md
//
// DIR holds cni.json and clients.json, which the tests in tests/matrix and
// tests/clients leave there.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cell is one pod network in one family, as tests/matrix writes it.
type cell struct {
	Layout string `json:"layout"`
	Family string `json:"family"`
	Result string `json:"result"`
	Reason string `json:"reason"`
	Client string `json:"client"`
	Guest  bool   `json:"libvirt"`
}

// row is one client in one family, as tests/clients writes it.
type row struct {
	Client  string            `json:"client"`
	Version string            `json:"version"`
	Family  string            `json:"family"`
	Columns map[string]string `json:"columns"`
	Cannot  map[string]string `json:"cannot"`
}

// families and columns are in the order of the page; a column is headed by its
// second name.
var (
	families = []string{"IPv4", "IPv6", "dual"}
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

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: compatibility DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "compatibility:", err)
		os.Exit(1)
	}
}

func run(dir string, w io.Writer) error {
	var cells []cell
	var rows []row
	if err := errors.Join(read(filepath.Join(dir, "cni.json"), &cells), read(filepath.Join(dir, "clients.json"), &rows)); err != nil {
		return err
	}
	for _, c := range cells {
		if c.Result == "FAILED" {
			return fmt.Errorf("%s, %s failed: a page is made of a run that passed", c.Layout, c.Family)
		}
	}
	var notes notes
	page := fmt.Sprintf(head, kernelVersion(), distribution()) +
		networks(cells, &notes) + notes.list() + clientsHead
	notes = nil
	page += clients(rows, &notes) + notes.list()
	_, err := io.WriteString(w, page)
	return err
}

const head = `# Compatibility

Made by ` + "`make compatibility`" + ` from a run of ` + "`make matrix`" + `; not to be edited by hand.
This run: Linux %s, %s.

## Pod networks

bridge, ptp, flannel, macvlan and ipvlan are the real CNI plugins, with host-local; the
layouts of Calico, Cilium, the AWS VPC CNI and OVN-Kubernetes are made by hand, as
those leave a pod and its node. The rows from "gateway outside the prefix" on are
oddities that plugins and administrators make.

In each cell the VM's pod is wired; a real DHCP client takes the pod's place and
reaches, in each family, the gateway, a pod on the same node, a pod behind a route
and a service address, and is reached from both pods, with the pod's own address at
either end; then the pod is put back, and is what it was to the letter. **VM**: a
guest of libvirt's did so, too.

`

const clientsHead = `
## DHCP clients

What each client took over from podwire, as that client shows it.

`

// networks is the table of pod networks.
func networks(cells []cell, n *notes) string {
	var out strings.Builder
	out.WriteString("| pod network | " + strings.Join(families, " | ") + " |\n|---|---|---|---|\n")
	for _, layout := range order(cells, func(c cell) string { return c.Layout }) {
		out.WriteString("| " + layout)
		for _, family := range families {
			i := slices.IndexFunc(cells, func(c cell) bool { return c.Layout == layout && c.Family == family })
			text := " "
			if i >= 0 {
				text = cells[i].Result + n.mark(cells[i].Reason)
				if cells[i].Guest {
					text += ", VM"
				}
			}
			out.WriteString(" | " + text)
		}
		out.WriteString(" |\n")
	}
	return out.String()
}

// clients is the table of clients.
func clients(rows []row, n *notes) string {
	var out strings.Builder
	out.WriteString("| client | family |")
	for _, column := range columns {
		out.WriteString(" " + column[1] + " |")
	}
	out.WriteString("\n|---|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, r := range rows {
		name := r.Client
		switch {
		case name == "kernel":
			name += " " + kernelVersion()
		case r.Version != "":
			name += " " + strings.TrimPrefix(r.Version, "v")
		}
		out.WriteString("| " + name + " | " + r.Family)
		for _, column := range columns {
			out.WriteString(" | " + r.Columns[column[0]] + n.mark(r.Cannot[column[0]]))
		}
		out.WriteString(" |\n")
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

func read(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// kernelVersion is the release without what a distribution adds.
func kernelVersion() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "of unknown version"
	}
	parts := strings.SplitN(strings.TrimSpace(string(text)), ".", 3)
	return strings.Join(parts[:min(len(parts), 2)], ".")
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
