package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v2"

	"github.com/podwire/podwire/internal/jsonkeys"
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

// UnmarshalText implements encoding.TextUnmarshaler, which YAML's decoder asks for a word
// that it takes for no value although it is in quotes.
func (g *given) UnmarshalText(text []byte) error {
	g.texts = []string{string(text)}
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (g *given) UnmarshalJSON(text []byte) error {
	list := []json.RawMessage{text}
	if text[0] == '[' {
		if err := json.Unmarshal(text, &list); err != nil {
			return err
		}
	}
	for _, value := range list {
		switch word := string(value); word[0] {
		case '{', '[', 'n': // an object, a list in a list, null
			g.texts = nil
			return nil
		case '"':
			if err := json.Unmarshal(value, &word); err != nil {
				return err
			}
			g.texts = append(g.texts, word)
		default:
			g.texts = append(g.texts, word)
		}
	}
	return nil
}

// parseKeys reads one mapping, of YAML or JSON; nil where there is nothing. Each key
// is there once. That JSON is YAML, too, is not so of all of its texts.
func parseKeys(text []byte) (map[string]given, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("want at most %d octets", MaxFile)
	}
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) && json.Valid(text) {
		if key, twice := jsonkeys.Twice(text); twice {
			return nil, fmt.Errorf("key %s is there twice: want each setting once", quoted(key))
		}
		var keys map[string]given
		err := json.Unmarshal(text, &keys)
		return keys, err
	}
	return parseYAML(text)
}

func parseYAML(text []byte) (map[string]given, error) {
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
	for { // a mark at the end begins a document of nothing
		var more any
		err := d.Decode(&more)
		if errors.Is(err, io.EOF) {
			return keys, nil
		}
		if err != nil || more != nil {
			return nil, errors.New("want one document, and there are more")
		}
	}
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
