package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Steps is an ordered list of steps that can be printed and kept in a file.
type Steps []Step

// String returns the steps in the words of ip(8), bridge(8) and tc(8), one
// command a line.
func (s Steps) String() string {
	var b strings.Builder
	for _, step := range s {
		b.WriteString(step.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// Without returns the steps that are not on a link, and those whose work outlives it:
// a table stays.
func (s Steps) Without(link string) Steps {
	return slices.DeleteFunc(slices.Clone(s), func(step Step) bool {
		_, outlives := step.(Translate)
		return step.On() == link && !outlives
	})
}

// stepJSON is a step in a file: its kind beside its fields.
type stepJSON struct {
	Kind string          `json:"step"`
	With json.RawMessage `json:"with"`
}

// MarshalJSON implements json.Marshaler.
func (s Steps) MarshalJSON() ([]byte, error) {
	out := make([]stepJSON, len(s))
	for i, step := range s {
		with, err := json.Marshal(step)
		if err != nil {
			return nil, fmt.Errorf("encoding step %q: %w", step.Kind(), err)
		}
		out[i] = stepJSON{Kind: step.Kind(), With: with}
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler. A step that this version does not
// know, or a field in one, is an error: to leave it out of a teardown would leave the
// pod half-wired.
func (s *Steps) UnmarshalJSON(b []byte) error {
	var in []stepJSON
	if err := strictly(b, &in); err != nil {
		return err
	}
	out := make(Steps, len(in))
	for i, j := range in {
		decode, ok := decoders[j.Kind]
		if !ok {
			return fmt.Errorf("step %d: unknown kind %q", i, j.Kind)
		}
		step, err := decode(j.With)
		if err != nil {
			return fmt.Errorf("step %d (%s): %w", i, j.Kind, err)
		}
		out[i] = step
	}
	*s = out
	return nil
}

var decoders = map[string]func([]byte) (Step, error){
	CreateTap{}.Kind():     decode[CreateTap],
	CreateBridge{}.Kind():  decode[CreateBridge],
	AddFilter{}.Kind():     decode[AddFilter],
	Redirect{}.Kind():      decode[Redirect],
	AddAddresses{}.Kind():  decode[AddAddresses],
	SetOption{}.Kind():     decode[SetOption],
	Translate{}.Kind():     decode[Translate],
	TakeAddresses{}.Kind(): decode[TakeAddresses],
	SetMAC{}.Kind():        decode[SetMAC],
	AttachPort{}.Kind():    decode[AttachPort],
}

func decode[T Step](b []byte) (Step, error) {
	var v T
	if err := strictly(b, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// strictly decodes what is all known. A decoder's strictness does not reach what is
// below an UnmarshalJSON, so that each level asks for it.
func strictly(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
