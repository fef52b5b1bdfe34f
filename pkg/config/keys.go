package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v2"
)

// MaxFile is the most that is looked at of a configuration file, in octets.
const MaxFile = 1 << 20

var errNoMapping = errors.New("want a mapping of settings, such as \"mtu: 1400\"")

// given is what a key of a file has for a value: its scalars in the words of the file.
// A setting is parsed once, by its field: YAML's own idea of a word, which makes true
// of on and 8 of 010, must not come before that.
type given struct{ texts []string }

// UnmarshalYAML implements yaml.Unmarshaler.
func (g *given) UnmarshalYAML(unmarshal func(any) error) error {
	var list []*string
	var one *string
	if unmarshal(&one) == nil {
		list = []*string{one}
	} else if unmarshal(&list) != nil {
		return nil // no texts: the caller, who knows the key, says so
	}
	for _, text := range list {
		if text == nil {
			g.texts = nil
			return nil
		}
		g.texts = append(g.texts, *text)
	}
	return nil
}

// parseKeys reads one mapping, of YAML or JSON; nil where there is nothing. Each key
// is there once.
func parseKeys(text []byte) (map[string]given, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("want at most %d octets", MaxFile)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.SetStrict(true)
	var keys map[string]given
	err := d.Decode(&keys)
	var mismatch *yaml.TypeError
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil
	case errors.As(err, &mismatch) && strings.HasSuffix(mismatch.Errors[0], "already set in map"):
		return nil, fmt.Errorf("%s: want each setting once", readable(mismatch.Errors[0]))
	case errors.As(err, &mismatch):
		return nil, errNoMapping
	case err != nil:
		return nil, fmt.Errorf("%s: want YAML or JSON", readable(err.Error()))
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("want one document, and there are more")
	}
	return keys, nil
}

// fromKeys turns keys and their values into settings, of which some are allowed.
func fromKeys(source string, keys map[string]given, allowed []string) ([]Setting, error) {
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !slices.Contains(allowed, key) {
			return nil, &Error{Source: source, Value: key, Want: "a setting: " + strings.Join(allowed, ", ")}
		}
	}
	var out []Setting
	for _, f := range fields {
		value, ok := keys[f.Name]
		if !ok {
			continue
		}
		s := Setting{Field: f.Name, Source: source + ": " + f.Name, Values: value.texts}
		if len(s.Values) == 0 {
			s.Values = []string{"null, a mapping or an empty list"}
			return nil, s.refused(f.want)
		}
		out = append(out, s)
	}
	return out, nil
}
