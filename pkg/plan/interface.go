package plan

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
)

// Interface names the parts of one wired pod interface.
type Interface struct {
	PodInterface string         `json:"podInterface"`
	Binding      config.Binding `json:"binding"`
	Bridge       string         `json:"bridge,omitempty"` // of the bridge binding alone
	Tap          string         `json:"tap"`              // what the hypervisor opens; a macvtap is its own
	MAC          netstate.MAC   `json:"mac"`              // the guest's
	MTU          int            `json:"mtu"`              // octets
	Queues       int            `json:"queues"`           // of the tap
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
