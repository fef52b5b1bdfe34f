package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Setting is a value somebody gave, and where.
type Setting struct {
	Field  string
	Source string // as an error names it
	Values []string
}

// Bounds of what is given, far above what any setting needs: what is read is also
// quoted, recorded and encoded.
const (
	maxValue  = 4096 // octets of one value
	maxValues = 256  // of one list
)

// Apply gives the settings to c in turn: a later one replaces what an earlier
// one said of the same field. The error is an *Error.
func (c *Config) Apply(settings ...Setting) error {
	for _, s := range settings {
		f, ok := fieldByName(s.Field)
		if !ok {
			return s.refused("one of podwire's settings")
		}
		switch {
		case len(s.Values) > 1 && !f.List:
			return s.refused("one value: " + f.want)
		case len(s.Values) > maxValues:
			return s.refused(fmt.Sprintf("at most %d values", maxValues))
		case slices.ContainsFunc(s.Values, func(v string) bool { return len(v) > maxValue }):
			return s.refused(fmt.Sprintf("at most %d characters: %s", maxValue, f.want))
		case len(s.Values) == 0 || !f.set(c, s.Values):
			return s.refused(f.want)
		}
		c.Given = append(c.Given, s)
	}
	return nil
}

func (s Setting) refused(want string) *Error {
	return &Error{Source: s.Source, Value: strings.Join(s.Values, ","), Want: want}
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
// may hold commas themselves; those are parted by line ends. A text of separators alone
// is kept as it is, for an error to name.
func (f Field) split(value string) []string {
	if !f.List {
		return []string{value}
	}
	separators := ", \n"
	if f.Name == "dhcp-option" {
		separators = "\n"
	}
	parts := strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(separators, r) })
	if len(parts) == 0 {
		return []string{value}
	}
	return parts
}

// FromFlag returns the setting that a flag gives; a list may be given by
// repetition, by commas, or both.
func FromFlag(f Field, values []string) Setting {
	var parts []string
	for _, v := range values {
		parts = append(parts, f.split(v)...)
	}
	return Setting{Field: f.Name, Source: "--" + f.Name, Values: parts}
}

// FromFile reads a configuration file: YAML or JSON, one mapping, whose keys are
// the names of the flags.
func FromFile(path string, text []byte) ([]Setting, error) {
	name := readable(filepath.Base(path))
	keys, err := parseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return fromKeys(name, keys, names())
}

func names() []string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.Name
	}
	return all
}
