package cni

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/podwire/podwire/pkg/config"
)

// PluginType is the plugin's name, in configurations and on disk.
const PluginType = "podwire"

// AnnotationsCapability is what a plugin must declare for the runtime to hand over
// the pod's annotations, and what they are called then. containerd knows it since
// 1.5 and CRI-O since 1.29.
const AnnotationsCapability = "io.kubernetes.cri.pod-annotations"

// Where things are on a node, where its configuration does not say otherwise.
const (
	DefaultStateDir   = "/run/podwire/cni"
	DefaultKubeletDir = "/var/lib/kubelet"
)

// maxStateDir leaves room for a container's directory of 64 letters within what
// the setting state-dir allows.
const maxStateDir = 21

// Versions are those of the CNI specification that the plugin speaks.
var Versions = version.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0")

// Wire says which pods are wired.
type Wire string

// The values of "wire".
const (
	WireAnnotated Wire = "annotated" // those whose annotation asks for it
	// WireAll is for runtimes that hand over no annotations: the containers of those
	// that are not of Kubernetes, and in Kubernetes the pods that have the volume for
	// the state, which is how a pod asks there.
	WireAll Wire = "all"
)

// Network is the plugin's part of a network configuration.
type Network struct {
	CNIVersion string
	Name       string
	Wire       Wire
	Namespaces []string // Kubernetes namespaces whose pods may ask; all where empty
	Settings   json.RawMessage
	StateDir   string
	KubeletDir string
	Log        string // a file; standard error where empty
	Valid      []types.GCAttachment

	annotations map[string]string
	previous    json.RawMessage
	unknown     []string
}

// The fields of a configuration: those that CNI has in any, beside what begins with
// cni.dev/, and podwire's.
var (
	cniFields = []string{"cniVersion", "name", "type", "prevResult", "ipam", "dns", "capabilities", "runtimeConfig", "args"}
	ownFields = []string{"wire", "namespaces", "settings", "stateDir", "kubeletDir", "log", "disabledCheck"}
)

// ParseNetwork reads the configuration that the runtime hands the plugin.
func ParseNetwork(text []byte) (Network, error) {
	var fields map[string]json.RawMessage
	var conf struct {
		CNIVersion    string
		Name          string
		PrevResult    json.RawMessage
		RuntimeConfig struct {
			Annotations map[string]string `json:"io.kubernetes.cri.pod-annotations"`
		}
		Wire       Wire
		Namespaces []string
		Settings   json.RawMessage
		StateDir   string
		KubeletDir string
		Log        string
		Valid      []types.GCAttachment `json:"cni.dev/valid-attachments"`
	}
	err := json.Unmarshal(text, &fields)
	if err == nil {
		err = json.Unmarshal(text, &conf)
	}
	if err != nil {
		return Network{}, Fail(types.ErrDecodingFailure, "reading podwire's network configuration: "+err.Error(), "")
	}
	n := Network{
		CNIVersion: conf.CNIVersion, Name: conf.Name, Wire: conf.Wire, Namespaces: conf.Namespaces, Settings: conf.Settings,
		StateDir: conf.StateDir, KubeletDir: conf.KubeletDir, Log: conf.Log, Valid: conf.Valid,
		annotations: conf.RuntimeConfig.Annotations, previous: conf.PrevResult,
	}
	if n.Wire == "" {
		n.Wire = WireAnnotated
	}
	if n.StateDir == "" {
		n.StateDir = DefaultStateDir
	}
	if n.KubeletDir == "" {
		n.KubeletDir = DefaultKubeletDir
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(cniFields, key) && !slices.Contains(ownFields, key) && !strings.HasPrefix(key, "cni.dev/") {
			n.unknown = append(n.unknown, key)
		}
	}
	return n, nil
}

// Validate says what is wrong with a configuration. It is not for DEL, which must
// not fail for a reason that has nothing to do with the pod.
func (n Network) Validate() error {
	problem := ""
	_, settings := n.defaults()
	switch {
	case len(n.unknown) > 0:
		problem = fmt.Sprintf("%.60q: want one of podwire's fields: %s", n.unknown[0], strings.Join(ownFields, ", "))
	case n.Wire != WireAnnotated && n.Wire != WireAll:
		problem = fmt.Sprintf("wire: %.60q: want annotated or all", n.Wire)
	case !cleanPath(n.StateDir) || len(n.StateDir) > maxStateDir:
		problem = fmt.Sprintf("stateDir: %.60q: want an absolute path of at most %d characters", n.StateDir, maxStateDir)
	case !cleanPath(n.KubeletDir):
		problem = fmt.Sprintf("kubeletDir: %.60q: want an absolute path", n.KubeletDir)
	case n.Log != "" && !cleanPath(n.Log):
		problem = fmt.Sprintf("log: %.60q: want an absolute path", n.Log)
	case settings != nil:
		problem = settings.Error()
	}
	if problem != "" {
		return Fail(types.ErrInvalidNetworkConfig, "podwire's network configuration: "+problem, "")
	}
	return nil
}

func cleanPath(path string) bool { return filepath.IsAbs(path) && filepath.Clean(path) == path }

// defaults are the settings that hold for each pod of the node.
func (n Network) defaults() (config.Config, error) {
	c := config.Default()
	if n.Settings == nil || string(n.Settings) == "null" {
		return c, nil
	}
	settings, err := config.FromObject("settings", n.Settings)
	if err == nil {
		err = c.Apply(settings...)
	}
	return c, err
}

// Previous is the result of the plugins before this one.
func (n Network) Previous() (types.Result, error) {
	if len(n.previous) == 0 || string(n.previous) == "null" {
		return nil, Fail(types.ErrInvalidNetworkConfig,
			"podwire has no network of its own to give: list it after the plugin that makes the pod's interface (there is no prevResult)", "")
	}
	conf := types.PluginConf{CNIVersion: n.CNIVersion}
	err := json.Unmarshal(n.previous, &conf.RawPrevResult)
	if err == nil {
		err = version.ParsePrevResult(&conf)
	}
	if err != nil {
		return nil, Fail(types.ErrDecodingFailure, "reading prevResult: "+err.Error(), "")
	}
	return conf.PrevResult, nil
}
