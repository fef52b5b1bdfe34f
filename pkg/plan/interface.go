package plan

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/podwire/podwire/pkg/netstate"
)

// Binding is how a pod interface is joined to its virtual machine.
type Binding string

// Bridge makes the pod interface and the tap the two ports of a bridge; the
// guest takes over the pod's MAC and addresses.
const Bridge Binding = "bridge"

// Limits are what a pod of this binding cannot do, and its users would look for,
// in words.
func (b Binding) Limits() []string {
	if b != Bridge {
		return nil
	}
	return []string{
		"the guest has the pod's address and the pod itself has none: what goes to the pod's own localhost (kubectl port-forward) " +
			"does not reach the guest, and processes beside it in the pod have no network; reach the guest by the pod's address",
	}
}

// Interface names the parts of one wired pod interface.
type Interface struct {
	PodInterface string       `json:"podInterface"`
	Binding      Binding      `json:"binding"`
	Bridge       string       `json:"bridge,omitempty"`
	Tap          string       `json:"tap"`
	MAC          netstate.MAC `json:"mac"`    // the guest's
	MTU          int          `json:"mtu"`    // octets
	Queues       int          `json:"queues"` // of the tap
}

// maxName is IFNAMSIZ less its terminating zero.
const maxName = 15

// BridgeName is the name of the bridge of a pod interface.
func BridgeName(podInterface string) string { return deriveName("pw-", podInterface) }

// TapName is the name of the tap of a pod interface.
func TapName(podInterface string) string { return deriveName(TapPrefix, podInterface) }

// TapPrefix begins the name of every tap of podwire's.
const TapPrefix = "tap-"

// TunnelName is the name of the device by which the server's DNS hears the guest
// of a pod interface.
func TunnelName(podInterface string) string { return deriveName("dns-", podInterface) }

// deriveName prefixes a name, or its digest where the kernel would not take the
// whole.
func deriveName(prefix, name string) string {
	if len(prefix)+len(name) <= maxName {
		return prefix + name
	}
	sum := sha256.Sum256([]byte(name))
	return prefix + hex.EncodeToString(sum[:4])
}
