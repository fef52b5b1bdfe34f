package cli

import "github.com/podwire/podwire/pkg/config"

// limits are what a pod of a binding cannot do, and its users would look for, in
// words.
func limits(b config.Binding) []string {
	switch b {
	case config.Bridge:
		return []string{
			"the guest has the pod's address and the pod itself has none: what goes to the pod's own localhost (kubectl port-forward) " +
				"does not reach the guest, and processes beside it in the pod have no network; reach the guest by the pod's address",
		}
	case config.TC:
		return []string{
			"the guest hears all that comes to the pod's address and the pod itself nothing: what goes to the pod's own localhost (kubectl port-forward) " +
				"does not reach the guest, and processes beside it in the pod get no answers; reach the guest by the pod's address",
		}
	case config.Masquerade:
		return []string{
			"the guest has an address of its own behind the pod's: protocols that tell their own address to others, " +
				"and multicast of the pod's network, do not get through",
		}
	default:
		return nil
	}
}
