package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrNotJSON says that a configuration is no JSON. It may be half-written.
var ErrNotJSON = errors.New("not JSON")

// span is a part of a text.
type span struct{ from, to int }

// list is where the things of a configuration list stand in its text.
type list struct {
	version string
	name    string
	plugins []span   // each one's object
	types   []string // and what it is
	array   span     // of the plugins, with its brackets
	key     int      // where "plugins" stands
	check   *span    // of disableCheck, from the end of what is before it
}

// ours is the place of podwire among the plugins, or -1.
func (l list) ours() int { return slices.Index(l.types, PluginType) }

// scan finds the parts of a configuration list.
func scan(text []byte) (list, error) {
	var l list
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return l, fmt.Errorf("%w: want an object", ErrNotJSON)
	}
	for d.More() {
		before := int(d.InputOffset())
		t, err := d.Token()
		if err != nil {
			return l, fmt.Errorf("%w: %w", ErrNotJSON, err)
		}
		name, _ := t.(string)
		if err := l.value(d, text, name, before); err != nil {
			return l, err
		}
	}
	_, err := d.Token()
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			err = nil
		} else {
			err = errors.New("more than one object")
		}
	}
	if err != nil {
		return l, fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	return l, nil
}

// value takes the value of a key of the list; before is where the value before it
// ends.
func (l *list) value(d *json.Decoder, text []byte, name string, before int) error {
	if name == "plugins" {
		l.key = before + bytes.IndexByte(text[before:], '"')
		return l.entries(d)
	}
	var value any
	if err := d.Decode(&value); err != nil {
		return fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	switch name {
	case "cniVersion":
		l.version, _ = value.(string)
	case "name":
		l.name, _ = value.(string)
	case "disableCheck":
		l.check = &span{before, int(d.InputOffset())}
	}
	return nil
}

// entries takes the array of plugins.
func (l *list) entries(d *json.Decoder) error {
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return fmt.Errorf("%w: \"plugins\" is no list", ErrNotJSON)
	}
	l.array.from = int(d.InputOffset()) - 1
	for d.More() {
		var raw json.RawMessage
		var plugin struct{ Type string }
		err := d.Decode(&raw)
		if err == nil {
			err = json.Unmarshal(raw, &plugin)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotJSON, err)
		}
		to := int(d.InputOffset())
		l.plugins = append(l.plugins, span{to - len(raw), to})
		l.types = append(l.types, plugin.Type)
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	l.array.to = int(d.InputOffset())
	return nil
}

// Add returns the text of a configuration list with podwire's entry at its end, or
// with the entry that it has replaced where it differs. All else stays as it is
// written. Where the entry says so, CHECK is disabled for the list.
func Add(text []byte, e Entry) ([]byte, error) {
	l, err := scan(text)
	if err != nil {
		return nil, err
	}
	if len(l.plugins) == 0 {
		return nil, errors.New("it lists no plugins")
	}
	if !slices.Contains(Versions.SupportedVersions(), l.version) {
		return nil, fmt.Errorf("its cniVersion is %q; podwire speaks %s", l.version, strings.Join(Versions.SupportedVersions(), ", "))
	}
	n := l.ours()
	if n == 0 {
		return nil, errors.New("podwire comes first in it; it goes after the plugin that makes the pods' interface")
	}
	had := n > 0 && hasDisabledCheck(text[l.plugins[n].from:l.plugins[n].to])
	if had && !e.DisabledCheck {
		if text, err = Remove(text); err != nil {
			return nil, err
		}
		return Add(text, e)
	}
	e.DisabledCheck = e.DisabledCheck && (had || l.check == nil)
	out := bytes.Clone(text)
	// From the end, so that the places before stay.
	if e.DisabledCheck && l.check == nil {
		out = slices.Insert(out, l.array.to, []byte(","+l.gap(text)+`"disableCheck": true`)...)
	}
	if n < 0 {
		last := l.plugins[len(l.plugins)-1]
		return slices.Insert(out, last.to, entryAfter(text, last, e)...), nil
	}
	at := l.plugins[n]
	if sameJSON(text[at.from:at.to], e.text("", "")) {
		return out, nil
	}
	indent, unit := indentOf(text, at)
	return slices.Concat(out[:at.from], e.text(indent, unit), out[at.to:]), nil
}

// Remove returns the text of a configuration list without podwire's entry, and
// without what came with it.
func Remove(text []byte) ([]byte, error) {
	l, err := scan(text)
	if err != nil {
		return nil, err
	}
	n := l.ours()
	if n < 0 {
		return text, nil
	}
	if len(l.plugins) == 1 {
		return nil, errors.New("it lists podwire alone: remove the file by hand")
	}
	cut := span{l.plugins[n].from, l.plugins[n].to}
	if n > 0 {
		cut.from = l.plugins[n-1].to
	} else {
		cut.to = l.plugins[1].from
	}
	cuts := []span{cut}
	if l.check != nil && l.check.from >= l.array.to && hasDisabledCheck(text[l.plugins[n].from:l.plugins[n].to]) {
		cuts = append(cuts, *l.check)
	}
	out := bytes.Clone(text)
	for _, c := range slices.Backward(cuts) {
		out = slices.Delete(out, c.from, c.to)
	}
	return out, nil
}

// FromConf makes a list of the configuration of a single plugin.
func FromConf(text []byte) ([]byte, error) {
	l, err := scan(text)
	if err != nil {
		return nil, err
	}
	if l.array.to != 0 {
		return nil, errors.New("it is a list already, in a file that is named as if it were none: rename it to end in .conflist")
	}
	if l.name == "" || l.version == "" {
		return nil, errors.New("it has no name or no cniVersion, which a list needs")
	}
	version, err := json.Marshal(l.version)
	if err != nil {
		return nil, err
	}
	name, err := json.Marshal(l.name)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "{\n  \"cniVersion\": %s,\n  \"name\": %s,\n  \"plugins\": [\n    %s\n  ]\n}\n",
		version, name, bytes.ReplaceAll(bytes.TrimSpace(text), []byte("\n"), []byte("\n    "))), nil
}

// entryAfter is the entry as it is to follow another.
func entryAfter(text []byte, last span, e Entry) []byte {
	indent, unit := indentOf(text, last)
	if unit == "" {
		return append([]byte(", "), e.text("", "")...)
	}
	return append([]byte(",\n"+indent), e.text(indent, unit)...)
}

// indentOf is the white space before a part that begins a line, and what a further
// level of it is. Both are empty where the part is within a line.
func indentOf(text []byte, at span) (indent, unit string) {
	line := bytes.LastIndexByte(text[:at.from], '\n') + 1
	before := string(text[line:at.from])
	switch {
	case line == 0 || strings.TrimSpace(before) != "":
		return "", ""
	case strings.Contains(before, "\t"):
		return before, "\t"
	default:
		return before, "  "
	}
}

// gap is what stands before the key of the plugins.
func (l list) gap(text []byte) string {
	if indent, unit := indentOf(text, span{from: l.key}); unit != "" {
		return "\n" + indent
	}
	return " "
}

func hasDisabledCheck(entry []byte) bool {
	var e Entry
	return json.Unmarshal(entry, &e) == nil && e.DisabledCheck
}

// sameJSON compares two texts by what they mean.
func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	left, errLeft := json.Marshal(x)
	right, errRight := json.Marshal(y)
	return errLeft == nil && errRight == nil && bytes.Equal(left, right)
}
