package cluster

import (
	"context"
	"net/netip"
	"strings"
	"time"
)

// List is a list of objects.
type List[T any] struct {
	Items []T `json:"items"`
}

// Meta is what all objects have.
type Meta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace"`
	UID               string            `json:"uid"`
	Labels            map[string]string `json:"labels"`
	DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
}

// Condition is one of an object's conditions.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Container is a container of a pod, as it was asked for.
type Container struct {
	Name          string `json:"name"`
	Image         string `json:"image"`
	RestartPolicy string `json:"restartPolicy"`
}

// ContainerStatus is how a container does.
type ContainerStatus struct {
	Name         string `json:"name"`
	ContainerID  string `json:"containerID"`
	Ready        bool   `json:"ready"`
	RestartCount int    `json:"restartCount"`
	State        State  `json:"state"`
	LastState    State  `json:"lastState"`
}

// State is what a container does, or did.
type State struct {
	Waiting *struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	} `json:"waiting"`
	Running    *struct{} `json:"running"`
	Terminated *struct {
		ExitCode int    `json:"exitCode"`
		Reason   string `json:"reason"`
	} `json:"terminated"`
}

// Pod is a pod.
type Pod struct {
	Meta `json:"metadata"`
	Spec struct {
		NodeName       string      `json:"nodeName"`
		GracePeriod    int         `json:"terminationGracePeriodSeconds"` // seconds
		InitContainers []Container `json:"initContainers"`
		Containers     []Container `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase          string                    `json:"phase"`
		PodIP          string                    `json:"podIP"`
		PodIPs         []struct{ IP netip.Addr } `json:"podIPs"`
		Conditions     []Condition               `json:"conditions"`
		InitContainers []ContainerStatus         `json:"initContainerStatuses"`
		Containers     []ContainerStatus         `json:"containerStatuses"`
		Ephemeral      []ContainerStatus         `json:"ephemeralContainerStatuses"`
	} `json:"status"`
}

// Pod reads a pod.
func (c *Cluster) Pod(ctx context.Context, namespace, name string) (Pod, error) {
	var pod Pod
	err := c.Get(ctx, &pod, "--namespace", namespace, "pod", name)
	return pod, err
}

// Pods reads the pods that a selector names.
func (c *Cluster) Pods(ctx context.Context, namespace, selector string) ([]Pod, error) {
	var pods List[Pod]
	err := c.Get(ctx, &pods, "--namespace", namespace, "pods", "--selector", selector)
	return pods.Items, err
}

// Ready reports whether the pod is Ready and stays: one that is being deleted is not.
func (p Pod) Ready() bool {
	return p.DeletionTimestamp == nil && isTrue(p.Status.Conditions, "Ready")
}

// Container returns how a container does, be it one of the main ones, an init
// container or an ephemeral one.
func (p Pod) Container(name string) (ContainerStatus, bool) {
	for _, list := range [][]ContainerStatus{p.Status.Containers, p.Status.InitContainers, p.Status.Ephemeral} {
		for _, status := range list {
			if status.Name == name {
				return status, true
			}
		}
	}
	return ContainerStatus{}, false
}

// Why says in a line what the pod's state is.
func (p Pod) Why() string {
	words := []string{"phase " + p.Status.Phase}
	for _, c := range p.Status.Conditions {
		if c.Status != "True" {
			words = append(words, strings.TrimSpace("not "+c.Type+" "+c.Message))
		}
	}
	for _, status := range append(p.Status.InitContainers[:len(p.Status.InitContainers):len(p.Status.InitContainers)], p.Status.Containers...) {
		if w := status.State.Waiting; w != nil {
			words = append(words, strings.TrimSpace(status.Name+" waits: "+w.Reason+" "+w.Message))
		}
	}
	return strings.Join(words, "; ")
}

// Node is a node.
type Node struct {
	Meta   `json:"metadata"`
	Status struct {
		Conditions []Condition `json:"conditions"`
	} `json:"status"`
}

// Ready reports whether the node is Ready.
func (n Node) Ready() bool { return isTrue(n.Status.Conditions, "Ready") }

// Nodes reads all nodes.
func (c *Cluster) Nodes(ctx context.Context) ([]Node, error) {
	var nodes List[Node]
	err := c.Get(ctx, &nodes, "nodes")
	return nodes.Items, err
}

// DaemonSet is a DaemonSet.
type DaemonSet struct {
	Meta   `json:"metadata"`
	Status struct {
		Desired int `json:"desiredNumberScheduled"`
		Updated int `json:"updatedNumberScheduled"`
		Ready   int `json:"numberReady"`
	} `json:"status"`
}

// Done reports whether its pods are Ready on all nodes that should have one.
func (d DaemonSet) Done() bool {
	return d.Status.Desired > 0 && d.Status.Ready == d.Status.Desired && d.Status.Updated == d.Status.Desired
}

// EndpointSlice is some of a service's endpoints.
type EndpointSlice struct {
	Endpoints []struct {
		Addresses  []netip.Addr `json:"addresses"`
		Conditions struct {
			Ready *bool `json:"ready"` // nil counts as true
		} `json:"conditions"`
	} `json:"endpoints"`
}

// Endpoints returns the addresses of a service that are Ready.
func (c *Cluster) Endpoints(ctx context.Context, namespace, service string) ([]netip.Addr, error) {
	var slices List[EndpointSlice]
	if err := c.Get(ctx, &slices, "--namespace", namespace, "endpointslices", "--selector", "kubernetes.io/service-name="+service); err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, slice := range slices.Items {
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				addrs = append(addrs, e.Addresses...)
			}
		}
	}
	return addrs, nil
}

// Event is something that happened to an object.
type Event struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Object  struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	} `json:"involvedObject"`
}

// Events reads what happened in a namespace for one of the given reasons.
func (c *Cluster) Events(ctx context.Context, namespace, reason string) ([]Event, error) {
	var events List[Event]
	err := c.Get(ctx, &events, "--namespace", namespace, "events", "--field-selector", "reason="+reason)
	return events.Items, err
}

func isTrue(conditions []Condition, kind string) bool {
	for _, c := range conditions {
		if c.Type == kind {
			return c.Status == "True"
		}
	}
	return false
}
