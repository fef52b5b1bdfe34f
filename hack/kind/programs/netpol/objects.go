package main

import (
	"encoding/json"
	"slices"
)

// The parts of the API's objects that matter here.
type (
	meta struct {
		Name, Namespace string
		Labels          map[string]string
	}
	namespace struct{ Metadata meta }
	pod       struct {
		Metadata meta
		Spec     struct {
			NodeName    string
			HostNetwork bool
		}
		Status struct {
			Phase  string
			PodIPs []struct{ IP string }
		}
	}
	policy struct {
		Metadata meta
		Spec     struct {
			PodSelector     selector
			PolicyTypes     []string
			Ingress, Egress []rule
		}
	}
	// rule is one of ingress, with From, or of egress, with To.
	rule struct {
		From, To []peer
		Ports    []port
	}
	peer struct {
		PodSelector, NamespaceSelector *selector
		IPBlock                        *struct {
			CIDR   string
			Except []string
		}
	}
	port struct {
		Protocol string
		Port     json.RawMessage // a number, or a name in quotes, or nothing: all
		EndPort  int
	}
	selector struct {
		MatchLabels      map[string]string
		MatchExpressions []struct {
			Key, Operator string
			Values        []string
		}
	}
	cluster struct {
		policies   []policy
		pods       []pod
		namespaces []namespace
	}
)

// matches reports whether a selector selects; an empty one selects everything.
func (s selector) matches(labels map[string]string) bool {
	for key, value := range s.MatchLabels {
		if have, ok := labels[key]; !ok || have != value {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		value, exists := labels[e.Key]
		listed := exists && slices.Contains(e.Values, value)
		switch e.Operator {
		case "In":
			if !listed {
				return false
			}
		case "NotIn":
			if listed {
				return false
			}
		case "Exists":
			if !exists {
				return false
			}
		case "DoesNotExist":
			if exists {
				return false
			}
		}
	}
	return true
}

// applies reports whether a policy is about a pod.
func (p policy) applies(to pod) bool {
	return p.Metadata.Namespace == to.Metadata.Namespace && p.Spec.PodSelector.matches(to.Metadata.Labels)
}

// restricts reports whether a policy is about a direction, Ingress or Egress. One
// that does not say is about ingress, and about egress if it has rules for it.
func (p policy) restricts(direction string) bool {
	if len(p.Spec.PolicyTypes) > 0 {
		return slices.Contains(p.Spec.PolicyTypes, direction)
	}
	return direction == "Ingress" || len(p.Spec.Egress) > 0
}

// addresses returns those of a pod that are its own.
func (p pod) addresses() []string {
	if p.Spec.HostNetwork || p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
		return nil
	}
	var all []string
	for _, each := range p.Status.PodIPs {
		all = append(all, each.IP)
	}
	return all
}

// selected returns the addresses of the pods that a peer in a policy of a namespace
// stands for.
func (c cluster) selected(p peer, home string) []string {
	var all []string
	for _, pod := range c.pods {
		if p.PodSelector != nil && !p.PodSelector.matches(pod.Metadata.Labels) {
			continue
		}
		if p.NamespaceSelector == nil && pod.Metadata.Namespace != home {
			continue
		}
		if p.NamespaceSelector != nil && !p.NamespaceSelector.matches(c.labels(pod.Metadata.Namespace)) {
			continue
		}
		all = append(all, pod.addresses()...)
	}
	return all
}

func (c cluster) labels(name string) map[string]string {
	for _, each := range c.namespaces {
		if each.Metadata.Name == name {
			return each.Metadata.Labels
		}
	}
	return nil
}
