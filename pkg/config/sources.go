package config

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Setting is a value somebody gave, and where.
type Setting struct {
	Field  string
	Source string // as an error names it
	Values []string
}

// Apply gives the settings to c in turn: a later one replaces what an earlier
// one said of the same field. The error is an *Error.
func (c *Config) Apply(settings ...Setting) error {
	for _, s := range settings {
		f, ok := fieldByName(s.Field)
		if !ok {
			return &Error{Source: s.Source, Value: s.Field, Want: "one of podwire's settings"}
		}
		if len(s.Values) == 0 || !f.set(c, s.Values) {
			return &Error{Source: s.Source, Value: strings.Join(s.Values, ","), Want: f.want}
		}
		c.Given = append(c.Given, s)
	}
	return nil
}

// FromEnv returns the settings in an environment, whose variables are in the
// form KEY=VALUE. An empty variable counts as unset, and variables that are no
// setting are left alone: Kubernetes puts PODWIRE_SERVICE_HOST and its like into
// a pod that has a service of that name beside it.
func FromEnv(environ []string) []Setting {
	var out []Setting
	for _, f := range fields {
		i := slices.IndexFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, f.Env()+"=") })
		if i < 0 {
			continue
		}
		if value := environ[i][len(f.Env())+1:]; value != "" {
			out = append(out, Setting{Field: f.Name, Source: f.Env(), Values: f.split(value)})
		}
	}
	return out
}

// split cuts a list that is written as one text. The values of a private option
// may hold commas themselves; those are parted by line ends.
func (f Field) split(value string) []string {
	switch {
	case !f.List:
		return []string{value}
	case f.Name == "dhcp-option":
		return strings.FieldsFunc(value, func(r rune) bool { return r == '\n' })
	default:
		return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
	}
}

// FromFlag returns the setting that a flag gives; a list may be given by
// repetition, by commas, or both.
func FromFlag(f Field, values []string) Setting {
	var parts []string
	for _, v := range values {
		if v == "" {
			parts = append(parts, v)
			continue
		}
		parts = append(parts, f.split(v)...)
	}
	return Setting{Field: f.Name, Source: "--" + f.Name, Values: parts}
}

// FromFile reads a configuration file: YAML or JSON, one mapping, whose keys are
// the names of the flags.
func FromFile(path string, text []byte) ([]Setting, error) {
	name := filepath.Base(path)
	doc, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", name, oneLine(err))
	}
	d := json.NewDecoder(strings.NewReader(string(doc)))
	d.UseNumber()
	var keys map[string]any
	if err := d.Decode(&keys); err != nil {
		return nil, fmt.Errorf("%s: want a mapping of settings, such as \"mtu: 1400\"", name)
	}
	return fromKeys(name, keys, names())
}

// scalars returns a scalar, or a list of them, as texts.
func scalars(value any) ([]string, bool) {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	var out []string
	for _, v := range list {
		switch v := v.(type) {
		case string, bool, json.Number:
			out = append(out, fmt.Sprint(v))
		default:
			return nil, false
		}
	}
	return out, len(out) > 0
}

func names() []string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.Name
	}
	return all
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
