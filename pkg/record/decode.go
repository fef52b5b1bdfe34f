package record

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/podwire/podwire/internal/jsonkeys"
	"github.com/podwire/podwire/pkg/netstate"
)

// damage is what is wrong in a state file, and where.
type damage struct {
	path  string // of the field, as lease.addrs[0]
	value string // as it is there
	want  string
}

func (e *damage) Error() string {
	return fmt.Sprintf("%s: %s: want %s", e.path, shortened(e.value), e.want)
}

// shortened is a value in an error's one line: what it holds may be anybody's.
func shortened(value string) string {
	const most = 60
	n := 0
	for i := range value {
		if n++; n > most {
			return strconv.Quote(value[:i] + "…")
		}
	}
	return strconv.Quote(value)
}

func decode(text []byte) (Record, error) {
	var head struct{ Version json.RawMessage }
	if err := json.Unmarshal(text, &head); err != nil {
		return Record{}, fmt.Errorf("%s: want the JSON of a state", shortened(err.Error()))
	}
	if v := string(head.Version); v != strconv.Itoa(Version) {
		return Record{}, &damage{"version", v, strconv.Itoa(Version)}
	}
	if key, twice := jsonkeys.Twice(text); twice {
		return Record{}, &damage{"key", key, "each once in an object"}
	}
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return Record{}, located(text, reflect.TypeFor[Record](), "", err)
	}
	return r, nil
}

// located finds the value that could not be decoded: encoding/json names it only
// where its kind is wrong, and not where it is the text of no address.
func located(text []byte, of reflect.Type, path string, err error) error {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if !decodesItself(of) {
		for _, p := range parts(text, of) {
			if perr := json.Unmarshal(p.text, reflect.New(p.of).Interface()); perr != nil {
				return located(p.text, p.of, path+p.path, perr)
			}
		}
	}
	path = strings.TrimPrefix(path, ".")
	if path == "steps" { // which says itself which one
		return fmt.Errorf("%s: %.300s: want what podwire wrote", path, err.Error())
	}
	value := string(text)
	if unquoted, uerr := strconv.Unquote(value); uerr == nil {
		value = unquoted
	}
	return &damage{path, value, wanted(of)}
}

func decodesItself(of reflect.Type) bool {
	p := reflect.PointerTo(of)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// part is a field of an object, or an element of a list.
type part struct {
	path string
	text json.RawMessage
	of   reflect.Type
}

func parts(text []byte, of reflect.Type) []part {
	var out []part
	switch of.Kind() {
	case reflect.Struct:
		var values map[string]json.RawMessage
		_ = json.Unmarshal(text, &values) // what is no object has no parts
		for i := range of.NumField() {
			name := jsonName(of.Field(i))
			if value, ok := values[name]; ok {
				out = append(out, part{"." + name, value, of.Field(i).Type})
			}
		}
	case reflect.Slice:
		var values []json.RawMessage
		_ = json.Unmarshal(text, &values)
		for i, value := range values {
			out = append(out, part{fmt.Sprintf("[%d]", i), value, of.Elem()})
		}
	case reflect.Map:
		var values map[string]json.RawMessage
		_ = json.Unmarshal(text, &values)
		for key, value := range values {
			out = append(out, part{"." + strings.Trim(shortened(key), `"`), value, of.Elem()})
		}
	default: // it is a value itself
	}
	return out
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" {
		return f.Name
	}
	return name
}

func wanted(of reflect.Type) string {
	switch {
	case of == prefixType:
		return "an IP address and its length, such as 10.244.1.7/24"
	case of == addrType:
		return "an IP address"
	case of == reflect.TypeFor[netstate.MAC]():
		return "a MAC address"
	}
	switch of.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	default:
		if of.Kind() >= reflect.Int && of.Kind() <= reflect.Uint64 {
			return fmt.Sprintf("a whole number of %d bits", of.Bits())
		}
		return "what podwire wrote"
	}
}
