// Package jsonkeys finds what encoding/json passes over in silence.
package jsonkeys

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// level is an object or a list that is open.
type level struct {
	keys map[string]bool // nil in a list
	key  bool            // said, and its value comes next
}

// Twice finds a key that is twice in an object, of whatever case: encoding/json would take
// the last one, and another reader of the text the first. It reads as far as the text
// is JSON.
func Twice(text []byte) (key string, twice bool) {
	var open []level
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	for {
		t, err := d.Token()
		if err != nil {
			return "", false
		}
		if t == json.Delim('}') || t == json.Delim(']') {
			open = open[:len(open)-1]
			continue
		}
		if n := len(open) - 1; n >= 0 && open[n].keys != nil {
			open[n].key = !open[n].key // in an object, key and value take turns
			if open[n].key {
				key := strings.ToLower(fmt.Sprint(t))
				if open[n].keys[key] {
					return fmt.Sprint(t), true
				}
				open[n].keys[key] = true
				continue
			}
		}
		switch t {
		case json.Delim('{'):
			open = append(open, level{keys: map[string]bool{}})
		case json.Delim('['):
			open = append(open, level{})
		}
	}
}
