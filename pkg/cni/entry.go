package cni

import (
	"bytes"
	"encoding/json"
)

// Entry is podwire's place in a node's list of plugins.
type Entry struct {
	Type         string          `json:"type"`
	Capabilities map[string]bool `json:"capabilities"`
	Wire         Wire            `json:"wire,omitempty"`
	Namespaces   []string        `json:"namespaces,omitempty"`
	Settings     map[string]any  `json:"settings,omitempty"`
	KubeletDir   string          `json:"kubeletDir,omitempty"`
	Log          string          `json:"log,omitempty"`
	// DisabledCheck says that the list's disableCheck was put there along with this
	// entry, and goes with it.
	DisabledCheck bool `json:"disabledCheck,omitempty"`
}

// NewEntry returns the entry that wires the pods that ask for it.
func NewEntry() Entry {
	return Entry{Type: PluginType, Capabilities: map[string]bool{AnnotationsCapability: true}}
}

// Validate says what is wrong with an entry.
func (e Entry) Validate() error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	n, err := ParseNetwork(text)
	if err != nil {
		return err
	}
	return n.Validate()
}

// text is the entry in JSON: on one line, or where an indent is given on several,
// of which all but the first begin with it.
func (e Entry) text(indent, unit string) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if indent != "" || unit != "" {
		enc.SetIndent(indent, unit)
	}
	if err := enc.Encode(e); err != nil {
		panic("cni: an entry that is no JSON: " + err.Error()) // it is texts, lists and booleans
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}

// String is the entry as it may be written into a list.
func (e Entry) String() string { return string(e.text("", "  ")) }
