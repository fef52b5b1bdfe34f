package plan

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/podwire/podwire/pkg/config"
)

// Chain is a list of rules of an nftables table.
type Chain struct {
	Name string `json:"name"`
	// Type, Hook and Priority are those of a base chain; one that has none is
	// jumped to.
	Type     string `json:"type,omitempty"` // nat or filter
	Hook     string `json:"hook,omitempty"` // prerouting, forward, output or postrouting
	Priority int    `json:"priority,omitempty"`
	Rules    []Rule `json:"rules"`
}

// String is the chain in the words of nft(8), without its rules.
func (c Chain) String() string {
	if c.Hook == "" {
		return c.Name
	}
	return fmt.Sprintf("%s { type %s hook %s priority %d; }", c.Name, c.Type, c.Hook, c.Priority)
}

// Texts are the rules in the words of nft(8).
func (c Chain) Texts() []string {
	out := make([]string, len(c.Rules))
	for i, r := range c.Rules {
		out[i] = r.String()
	}
	return out
}

// Verdict is what becomes of a packet that a rule describes.
type Verdict string

// The verdicts of nft(8) that podwire's rules have.
const (
	Drop         Verdict = "drop"
	Return       Verdict = "return"
	Jump         Verdict = "jump"
	DNAT         Verdict = "dnat"
	SNAT         Verdict = "snat"
	MasqueradeIt Verdict = "masquerade"
)

// Rule describes packets, and says what becomes of them. All that is set must hold.
type Rule struct {
	In     string        `json:"iifname,omitempty"`
	Out    string        `json:"oifname,omitempty"`
	NotIn  string        `json:"notIn,omitempty"`  // it came by any other link; a name that ends in * is all that begin so
	NotOut string        `json:"notOut,omitempty"` // it leaves by any other link, likewise
	Family string        `json:"family,omitempty"` // ip or ip6, where nothing else says it
	Src    netip.Prefix  `json:"saddr,omitzero"`
	Not    bool          `json:"not,omitempty"` // Src is any other source of its family
	Dst    netip.Prefix  `json:"daddr,omitzero"`
	Ports  *config.Ports `json:"ports,omitempty"` // of the destination
	// MidStream describes TCP segments that open no connection.
	MidStream bool `json:"midStream,omitempty"`
	// Redirects is ip or ip6, for what tells a host of a better way (RFC 792, RFC
	// 4861 §4.5).
	Redirects string `json:"redirects,omitempty"`

	Do    Verdict    `json:"do"`
	To    netip.Addr `json:"to,omitzero"`     // of dnat and snat, which are of its family
	Chain string     `json:"chain,omitempty"` // of jump
}

// String is the rule in the words of nft(8).
func (r Rule) String() string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if r.In != "" {
		add("iifname %s", r.In)
	}
	if r.Out != "" {
		add("oifname %s", r.Out)
	}
	if r.NotIn != "" {
		add("iifname != %s", r.NotIn)
	}
	if r.NotOut != "" {
		add("oifname != %s", r.NotOut)
	}
	switch r.Family {
	case "ip":
		add("meta nfproto ipv4")
	case "ip6":
		add("meta nfproto ipv6")
	}
	if r.Src.IsValid() {
		not := ""
		if r.Not {
			not = "!= "
		}
		add("%s saddr %s%s", family(r.Src.Addr()), not, prefixText(r.Src))
	}
	if r.Dst.IsValid() {
		add("%s daddr %s", family(r.Dst.Addr()), prefixText(r.Dst))
	}
	if p := r.Ports; p != nil {
		numbers, _, _ := strings.Cut(p.String(), "/")
		add("%s dport %s", p.Protocol, numbers)
	}
	if r.MidStream {
		add("tcp flags & (fin | syn | rst | ack) != syn")
	}
	switch r.Redirects {
	case "ip":
		add("icmp type redirect")
	case "ip6":
		add("icmpv6 type nd-redirect")
	}
	switch r.Do {
	case DNAT, SNAT:
		add("%s %s to %s", r.Do, family(r.To), r.To)
	case Jump:
		add("jump %s", r.Chain)
	default:
		add("%s", r.Do)
	}
	return strings.Join(words, " ")
}

func family(a netip.Addr) string { return familyName(a.Is4()) }

func familyName(ipv4 bool) string {
	if ipv4 {
		return "ip"
	}
	return "ip6"
}

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
