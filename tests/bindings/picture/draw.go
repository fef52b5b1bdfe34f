package picture

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Columns is how wide a picture is.
const Columns = 96

// inside is the width of a box in the pod's: less by its border and a blank on
// either side.
const inside = Columns - 4

// Draw draws the wired pod as plain text: the node's end of its link at the top, what is
// between the pod interface and the tap, and the guest at the bottom.
func Draw(k Kernel) (string, error) {
	s, err := read(k)
	if err != nil {
		return "", err
	}
	nic, ok := find(s.pod, func(l link) bool { return l.Peer != 0 })
	if !ok {
		return "", errors.New("the pod has no link that leads out of it")
	}
	tap, ok := find(s.pod, func(l link) bool { return l.Details.Data.Type == "tap" })
	if !ok {
		return "", errors.New("the pod has no tap")
	}
	var out []string
	if outer, ok := find(s.node, func(l link) bool { return l.Index == nic.Peer }); ok {
		out = append(out, box("node: "+outer.Name, nodeLines(outer), Columns)...)
		out = append(out, wire("a pair of veths")...)
	}
	out = append(out, box("pod", s.inPod(nic, tap), Columns)...)
	if guest, ok := find(s.guest, func(l link) bool { return l.Type == "ether" }); ok {
		out = append(out, wire("opened by the hypervisor")...)
		out = append(out, box("guest", append([]string{"MAC " + guest.MAC + ", MTU " + fmt.Sprint(guest.MTU)}, addrs(guest)...), Columns)...)
	}
	return strings.Join(out, "\n") + "\n", nil
}

// inPod are the boxes within the pod's.
func (s state) inPod(nic, tap link) []string {
	out := box(title(nic), s.linkLines(nic), inside)
	switch bridge, bridged := find(s.pod, func(l link) bool { return l.Name == tap.Master }); {
	case bridged:
		out = append(out, wire("port"+learning(nic))...)
		out = append(out, box(title(bridge), s.linkLines(bridge), inside)...)
		out = append(out, wire("port"+learning(tap))...)
	case s.redirects(nic, tap) || s.redirects(tap, nic):
		out = append(out, s.lanes(nic, tap)...)
	default:
		for _, o := range s.tables {
			if o.Table != nil {
				out = append(out, wire("routed")...)
				lines := tableLines(s.tables, o.Table.Name)
				out = append(out, box("nftables: table "+o.Table.Family+" "+o.Table.Name, lines, inside)...)
			}
		}
		out = append(out, wire("routed")...)
	}
	return append(out, box(title(tap), s.linkLines(tap), inside)...)
}

func find(links []link, is func(link) bool) (link, bool) {
	i := slices.IndexFunc(links, is)
	if i < 0 {
		return link{}, false
	}
	return links[i], true
}

func title(l link) string {
	kind := l.Details.Kind
	if l.Details.Data.Type == "tap" {
		kind = "tap"
	}
	return l.Name + ": " + kind
}

func nodeLines(l link) []string {
	line := "MAC " + l.MAC
	if l.Master != "" {
		line += ", port of " + l.Master
	}
	return []string{line}
}

func learning(l link) string {
	if l.Details.Slave.Learning {
		return ""
	}
	return ", learns nothing"
}

// linkLines are what is said of a link in its box.
func (s state) linkLines(l link) []string {
	out := []string{fmt.Sprintf("MAC %s, MTU %d", l.MAC, l.MTU)}
	out = append(out, addrs(l)...)
	for _, r := range s.routes {
		if r.Dev == l.Name && r.Via != "" {
			out = append(out, r.Dst+" via "+r.Via)
		}
	}
	out = append(out, filterLines("ingress", s.filters[l.Name])...)
	return append(out, filterLines("egress", s.sending[l.Name])...)
}

func filterLines(hook string, filters []filter) []string {
	var out []string
	for _, f := range filters {
		if f.Options == nil || f.Kind != "bpf" { // the head of a chain, or a redirection, which is drawn
			continue
		}
		out = append(out, fmt.Sprintf("%s, place %d: a filter (cls_bpf) that drops some frames", hook, f.Pref))
	}
	return out
}

func addrs(l link) []string {
	var out []string
	for _, a := range l.Addrs {
		out = append(out, fmt.Sprintf("address %s/%d", a.Local, a.Length))
	}
	if len(out) == 0 {
		out = []string{"no address"}
	}
	return out
}

// redirection is the place of the filter that hands frames of one link over to another.
func (s state) redirection(from, to link) (filter, bool) {
	i := slices.IndexFunc(s.filters[from.Name], func(f filter) bool {
		return f.Options != nil && len(f.Options.Actions) > 0 && f.Options.Actions[0].Kind == "mirred" && f.Options.Actions[0].To == to.Name
	})
	if i < 0 {
		return filter{}, false
	}
	return s.filters[from.Name][i], true
}

func (s state) redirects(from, to link) bool {
	_, ok := s.redirection(from, to)
	return ok
}

// lanes are the two ways between links that hand frames over to each other.
func (s state) lanes(nic, tap link) []string {
	says := func(from, to link) [2]string {
		f, ok := s.redirection(from, to)
		if !ok {
			return [2]string{"nothing", ""}
		}
		a := f.Options.Actions[0]
		return [2]string{
			fmt.Sprintf("ingress of %s, place %d", from.Name, f.Pref),
			fmt.Sprintf("%s: %s %s to %s", f.Kind, a.Action, a.Direction, a.To),
		}
	}
	down, up := says(nic, tap), says(tap, nic)
	lane := func(a, b, c, d string) string { return fmt.Sprintf("    %s %-38s %s %s", a, b, c, d) }
	return []string{
		lane("|", "", "^", ""),
		lane("|", down[0], "|", up[0]),
		lane("|", down[1], "|", up[1]),
		lane("v", "", "|", ""),
	}
}

// wire is what joins a box to the one below.
func wire(label string) []string {
	return []string{"    |", "    | " + label, "    |"}
}

// box is a frame around lines. Longer ones are broken.
func box(title string, lines []string, width int) []string {
	head := "+-- " + title + " "
	out := []string{head + strings.Repeat("-", max(0, width-len(head)-1)) + "+"}
	for _, line := range lines {
		for _, part := range broken(line, width-4) {
			out = append(out, fmt.Sprintf("| %-*s |", width-4, part))
		}
	}
	return append(out, "+"+strings.Repeat("-", width-2)+"+")
}

// broken is a line in parts that have room.
func broken(line string, room int) []string {
	var out []string
	for len(line) > room {
		at := strings.LastIndex(line[:room], " ")
		if at <= 0 {
			at = room
		}
		out = append(out, line[:at])
		line = "        " + strings.TrimSpace(line[at:])
	}
	return append(out, line)
}
