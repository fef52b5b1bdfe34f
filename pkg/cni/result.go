package cni

import (
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// Link is one that podwire made in the pod.
type Link struct {
	Name string
	MAC  string
	MTU  int
}

// Result is that of the plugins before, and podwire's links. They come last: the
// addresses name their interface by its place, and a runtime takes the pod's
// address from that of the pod interface.
func Result(previous types.Result, sandbox string, links ...Link) (types.Result, error) {
	r, err := current.NewResultFromResult(previous)
	if err != nil {
		return nil, Fail(types.ErrDecodingFailure, fmt.Sprintf("converting prevResult: %v", err), "")
	}
	for _, l := range links {
		r.Interfaces = append(r.Interfaces, &current.Interface{Name: l.Name, Mac: l.MAC, Mtu: l.MTU, Sandbox: sandbox})
	}
	return r, nil
}
