package config

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// AnnotationPrefix begins the pod annotations that are podwire's.
const AnnotationPrefix = "podwire.io/"

// maxAnnotation is the longest value that is looked at, in bytes. A pod may have
// 256 KiB of annotations, and nothing that a guest is told comes near this.
const maxAnnotation = maxValue

// ofPod are the settings that a pod may have from outside: by its annotations, or
// by the node's defaults. What names a path, a namespace or an interface is not
// among them: those would be the node's.
var ofPod = []string{
	"binding", "mac", "mtu", "tap-owner", "queues", "guard", "port", "exclude-port", "exclude-from", "vm-network-cidr", "vm-ipv6-network-cidr",
	"model", "vhost", "pci-address", "hostname", "domain", "search", "dns", "dns-forward", "ntp",
	"tftp-server", "boot-file", "dhcp-option", "lease-time",
}

// PodFields returns the settings that a pod may have by annotations, in the order
// of the help.
func PodFields() []Field {
	var out []Field
	for _, f := range fields {
		if slices.Contains(ofPod, f.Name) {
			out = append(out, f)
		}
	}
	return out
}

// FromAnnotations returns the settings in a pod's annotations, which are
// podwire.io/ and a flag's name. Lists are written as in the environment. The
// annotations that other names end in, given as except, are not settings. What
// is unknown, or not for a pod to say, is an error, which is an *Error.
func FromAnnotations(annotations map[string]string, except ...string) ([]Setting, error) {
	var keys []string
	for key := range annotations {
		name, ok := strings.CutPrefix(key, AnnotationPrefix)
		if ok && !slices.Contains(except, name) {
			keys = append(keys, name)
		}
	}
	slices.Sort(keys)
	for _, name := range keys {
		source, value := annotationSource(name), annotations[AnnotationPrefix+name]
		if !slices.Contains(ofPod, name) {
			return nil, &Error{Source: source, Value: value, Want: "one of podwire's annotations: " + strings.Join(slices.Concat(except, ofPod), ", ")}
		}
		if len(value) > maxAnnotation {
			return nil, &Error{Source: source, Value: value, Want: "at most 4096 characters"}
		}
	}
	var out []Setting
	for _, f := range PodFields() {
		if slices.Contains(keys, f.Name) {
			value := annotations[AnnotationPrefix+f.Name]
			out = append(out, Setting{Field: f.Name, Source: annotationSource(f.Name), Values: f.split(value)})
		}
	}
	return out, nil
}

// annotationSource is an annotation in an error's one line. Kubernetes would not take
// a name with odd characters, or a long one; a runtime without it may.
func annotationSource(name string) string {
	return "annotation " + AnnotationPrefix + readable(name)
}

// FromObject reads the settings that a pod may have from a JSON object, whose keys
// are the names of the flags. Errors name the object by source.
func FromObject(source string, object json.RawMessage) ([]Setting, error) {
	keys, err := parseKeys(object)
	if errors.Is(err, errNoMapping) || err == nil && keys == nil {
		return nil, &Error{Source: source, Value: string(object), Want: "an object of settings, such as {\"mtu\": 1400}"}
	}
	if err != nil {
		return nil, &Error{Source: source, Value: string(object), Want: err.Error()}
	}
	return fromKeys(source, keys, ofPod)
}
