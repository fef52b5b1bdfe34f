package matrix

import (
	"slices"

	"github.com/podwire/podwire/tests/pod"
)

// cell is one of the table: a layout, with pods of a family, and a binding.
type cell struct {
	layout  layout
	family  family
	binding pod.Binding
}

// cells are those of a layout. The bindings other than bridge share all but the wire
// with it: they are tried with both families at once where pods have both, and with each
// alone where the layout says so.
func cells(l layout) []cell {
	var out []cell
	for _, b := range pod.Bindings {
		for _, f := range families {
			both := !slices.Contains(l.without, dual)
			if b == pod.Bridge || f == dual || l.alone || !both {
				out = append(out, cell{l, f, b})
			}
		}
	}
	return out
}

// absent is why there is no such pod.
func (c cell) absent() string {
	if slices.Contains(c.layout.without, c.family) {
		return c.layout.reason
	}
	return ""
}

// refused reports whether podwire is to refuse it.
func (c cell) refused() bool { return slices.Contains(c.layout.refusedBy, c.binding) }

// guest reports whether a guest of libvirt's runs as well.
func (c cell) guest() bool {
	if c.binding != pod.Bridge {
		return c.layout.guestsOfAll && c.family == dual
	}
	return slices.Contains(c.layout.guests, c.family)
}
