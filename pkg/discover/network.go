package discover

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Network is one attachment of a pod, as the annotation
// k8s.v1.cni.cncf.io/network-status has it (Network Plumbing Working Group's
// standard, §4.1.2), so far as it matters here.
type Network struct {
	Name        string   // namespace/name of the network, or the name of the cluster's own
	Interface   string   // empty where the pod has no link of it
	Default     bool     // the pod's default network
	Nameservers []string // the network's own, as they are written there; most have none
	Search      []string
}

// networkStatus is an entry of the annotation.
type networkStatus struct {
	Name      string `json:"name"`
	Interface string `json:"interface"`
	Default   bool   `json:"default"`
	DNS       struct {
		Nameservers []string `json:"nameservers"`
		Search      []string `json:"search"`
	} `json:"dns"`
}

// ErrNoNetworks says that a network-status annotation is empty: the kubelet fills
// the file of it some time after the pod has started.
var ErrNoNetworks = errors.New("the network-status annotation is empty")

// ParseNetworks reads the annotation's value. What is in it that podwire does not
// know is passed over: the standard grows.
func ParseNetworks(text []byte) ([]Network, error) {
	var entries []networkStatus
	if len(text) == 0 {
		return nil, ErrNoNetworks
	}
	if err := json.Unmarshal(text, &entries); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			err = fmt.Errorf("%.60q: want no %s there, in a list of networks", kind.Field, kind.Value)
		}
		return nil, fmt.Errorf("reading the network-status annotation: %w", err)
	}
	if len(entries) == 0 {
		return nil, ErrNoNetworks
	}
	networks := make([]Network, len(entries))
	seen := map[string]bool{}
	for i, e := range entries {
		if strings.ContainsFunc(e.Name+e.Interface, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }) {
			return nil, fmt.Errorf("reading the network-status annotation: network %d: %.60q: want a printable name", i, e.Name)
		}
		if e.Interface != "" && seen[e.Interface] {
			return nil, fmt.Errorf("reading the network-status annotation: interface %q is there twice", e.Interface)
		}
		seen[e.Interface] = true
		networks[i] = Network{Name: e.Name, Interface: e.Interface, Default: e.Default, Nameservers: e.DNS.Nameservers, Search: e.DNS.Search}
	}
	return networks, nil
}
