package picture

import (
	"encoding/json"
	"fmt"
	"strings"
)

// object is one of nft -j list ruleset.
type object struct {
	Table *struct{ Family, Name string }
	Chain *chain
	Rule  *rule
}

type chain struct {
	Table, Name, Type, Hook string
	Priority                int `json:"prio"`
}

type rule struct {
	Table, Chain string
	Expr         []map[string]json.RawMessage
}

// tableLines are the chains and rules of a table. Those that hang on no hook come last.
func tableLines(objects []object, table string) []string {
	var based, jumped []string
	for _, o := range objects {
		if o.Chain == nil || o.Chain.Table != table {
			continue
		}
		c := o.Chain
		title := c.Name + ": jumped to"
		to := &jumped
		if c.Hook != "" {
			title = fmt.Sprintf("%s: %s, at %s, priority %d", c.Name, c.Type, c.Hook, c.Priority)
			to = &based
		}
		*to = append(*to, title)
		for _, o := range objects {
			if r := o.Rule; r != nil && r.Table == table && r.Chain == c.Name {
				*to = append(*to, "    "+r.text())
			}
		}
	}
	return append(based, jumped...)
}

// text is the rule in the words of nft(8).
func (r rule) text() string {
	var words []string
	for _, each := range r.Expr {
		for name, with := range each { // one
			words = append(words, statement(name, with))
		}
	}
	return strings.Join(words, " ")
}

func statement(name string, with json.RawMessage) string {
	var say struct {
		Op          string
		Left, Right any
		Family      string
		Addr        any
		Target      string
	}
	if json.Unmarshal(with, &say) != nil {
		return name
	}
	switch name {
	case "match":
		words := []string{operand(say.Left)}
		if say.Op != "==" {
			words = append(words, say.Op)
		}
		return strings.Join(append(words, operand(say.Right)), " ")
	case "dnat", "snat":
		return fmt.Sprintf("%s %s to %s", name, say.Family, operand(say.Addr))
	case "jump":
		return "jump " + say.Target
	default: // drop, return, masquerade
		return name
	}
}

// operand is one side of a comparison.
func operand(v any) string {
	switch v := v.(type) {
	case []any:
		return joined(v, " | ")
	case map[string]any:
		for kind, with := range v { // one
			return term(kind, with)
		}
	}
	return fmt.Sprint(v)
}

func term(kind string, with any) string {
	if list, ok := with.([]any); ok {
		switch {
		case kind == "&" && len(list) == 2:
			return operand(list[0]) + " & (" + operand(list[1]) + ")"
		case kind == "range":
			return joined(list, "-")
		default:
			return "{ " + joined(list, ", ") + " }"
		}
	}
	fields, _ := with.(map[string]any)
	switch kind {
	case "meta":
		return fmt.Sprint(fields["key"])
	case "payload":
		return fmt.Sprint(fields["protocol"], " ", fields["field"])
	case "prefix":
		return fmt.Sprintf("%v/%v", fields["addr"], fields["len"])
	default:
		return kind
	}
}

func joined(list []any, by string) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = operand(v)
	}
	return strings.Join(words, by)
}
