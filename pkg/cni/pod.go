package cni

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podwire/podwire/pkg/config"
)

// wireAnnotation is how a pod asks to be wired, below config.AnnotationPrefix.
const wireAnnotation = "wire"

// Volume is the name of the emptyDir that a pod's state is published in.
const Volume = "podwire"

// Pod is what the runtime says of a pod in CNI_ARGS. All of it is empty where the
// runtime is not one of Kubernetes.
type Pod struct {
	Namespace string
	Name      string
	UID       string
}

// ParseArgs reads CNI_ARGS. What is not about the pod is left alone.
func ParseArgs(args string) (Pod, error) {
	var p Pod
	for pair := range strings.SplitSeq(args, ";") {
		key, value, found := strings.Cut(pair, "=")
		if !found && pair != "" {
			return Pod{}, Fail(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("CNI_ARGS: %q is no KEY=VALUE", pair), "")
		}
		switch key {
		case "K8S_POD_NAMESPACE":
			p.Namespace = value
		case "K8S_POD_NAME":
			p.Name = value
		case "K8S_POD_UID":
			p.UID = value
		}
	}
	if p.UID != "" && !plain(p.UID, 64, "-") {
		return Pod{}, Fail(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("K8S_POD_UID: %q is no UID of a pod", p.UID), "")
	}
	return p, nil
}

// ValidID reports whether a container's ID can be the name of a directory.
func ValidID(id string) bool { return id != "" && alphanumeric(rune(id[0])) && plain(id, 128, "_.-") }

// plain reports whether a text has letters, digits, and of other characters only
// those that are listed.
func plain(s string, most int, also string) bool {
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool {
		return !alphanumeric(r) && !strings.ContainsRune(also, r)
	})
}

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// ofKubernetes reports whether the runtime says anything of a pod.
func (p Pod) ofKubernetes() bool { return p != Pod{} }

// String is the pod as people name it.
func (p Pod) String() string {
	if p.Name == "" {
		return ""
	}
	return p.Namespace + "/" + p.Name
}

// StateVolume is the directory of the pod's volume for podwire's state, below the
// kubelet's directory.
func (p Pod) StateVolume() string {
	return path.Join("pods", p.UID, "volumes", "kubernetes.io~empty-dir", Volume)
}

// Wish is whether a pod is to be wired.
type Wish int

// What a pod may wish for. A pod that did not ask must never be refused: "all" on a
// node of Kubernetes would keep each of its pods from starting.
const (
	WishNothing  Wish = iota
	WishByVolume      // to be wired if it has the volume for its state
	WishAlways        // to be wired, or refused
)

// Wish returns what a pod asks for.
func (n Network) Wish(p Pod) (Wish, error) {
	const key = config.AnnotationPrefix + wireAnnotation
	may := len(n.Namespaces) == 0 || slices.Contains(n.Namespaces, p.Namespace)
	switch value, said := n.annotations[key]; {
	case said && value != "true" && value != "false":
		return WishNothing, Fail(CodePod, (&config.Error{Source: "annotation " + key, Value: value, Want: "true or false"}).Error(), "")
	case value == "true" && !may:
		return WishNothing, Fail(CodePod, fmt.Sprintf("annotation %s: pods of the namespace %q are not wired on this node, but those of %s",
			key, p.Namespace, strings.Join(n.Namespaces, ", ")), "")
	case value == "true", !said && may && n.Wire == WireAll && !p.ofKubernetes():
		return WishAlways, nil
	case !said && may && n.Wire == WireAll:
		return WishByVolume, nil
	default:
		return WishNothing, nil
	}
}

// Config is the settings of a pod: its annotations, over those of the node.
func (n Network) Config() (config.Config, error) {
	c, err := n.defaults()
	if err != nil {
		return c, Fail(types.ErrInvalidNetworkConfig, err.Error(), "")
	}
	settings, err := config.FromAnnotations(n.annotations, wireAnnotation)
	if err == nil {
		err = c.Apply(settings...)
	}
	if err == nil {
		err = c.CheckBinding(settings...)
	}
	if err != nil {
		return c, Fail(CodePod, err.Error(), "")
	}
	return c, nil
}

// Published reports whether a pod's state is to be published: where the runtime
// is one of Kubernetes, somebody in the pod must serve the guest.
func (n Network) Published(p Pod) (bool, error) {
	if p.UID == "" && (n.Wire != WireAll || p.ofKubernetes()) {
		return false, Fail(CodePod, "the runtime does not say which pod this is (K8S_POD_UID), so that its state cannot be handed to it", "")
	}
	return p.UID != "", nil
}

// ErrNoVolume is the error of a pod that lacks the volume for its state.
var ErrNoVolume = Fail(CodePod, fmt.Sprintf("the pod asks to be wired and has no emptyDir for the state: add \"volumes: [{name: %s, emptyDir: {}}]\" "+
	"to its spec, and mount it at /run/podwire in the container that runs \"podwire serve\"", Volume), "")
