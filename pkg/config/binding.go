package config

import "github.com/podwire/podwire/pkg/netstate"

// Binding is how a pod interface is joined to its virtual machine.
type Binding string

const (
	// Bridge makes the pod interface and the tap the two ports of a bridge; the
	// guest takes over the pod's MAC and addresses.
	Bridge Binding = "bridge"
	// TC redirects what arrives at the pod interface to the tap, and the other way
	// round; the guest has the pod's MAC and addresses, and the pod interface keeps
	// them.
	TC Binding = "tc"
	// Masquerade puts the guest on a network of its own, behind the pod's address.
	Masquerade Binding = "masquerade"
	// Macvtap hands a macvtap that the pod was given to the virtual machine as it
	// is. It is not asked for: such an interface is good for nothing else.
	Macvtap Binding = "macvtap"
)

// For is the binding that a link gets where b was asked for.
func (b Binding) For(link netstate.Link) Binding {
	if link.Kind == string(Macvtap) {
		return Macvtap
	}
	return b
}
