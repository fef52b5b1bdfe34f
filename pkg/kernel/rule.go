//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

const (
	sizeofRuleHdr = 12 // struct fib_rule_hdr, the fixed part of a message about a rule
	ruleInverted  = 2  // FIB_RULE_INVERT
	actionGoto    = 2  // FR_ACT_GOTO
	tableDefault  = 253
)

// rules reads the policy routing rules of both families.
func (k *Kernel) rules(ctx context.Context) ([]netstate.Rule, error) {
	msgs, err := k.route.dump(ctx, unix.RTM_GETRULE, newMessage(make([]byte, sizeofRuleHdr)))
	// A kernel without policy routing has none.
	if isErrno(err, unix.EAFNOSUPPORT, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading rules: %w", err)
	}
	var out []netstate.Rule
	for _, msg := range msgs {
		fixed, attrs, err := split(msg, sizeofRuleHdr)
		if err != nil {
			return nil, fmt.Errorf("reading rules: %w", err)
		}
		if isIP(fixed[0]) {
			out = append(out, parseRule(fixed, attrs))
		}
	}
	return out, nil
}

func parseRule(fixed []byte, attrs []attribute) netstate.Rule {
	r := netstate.Rule{IPv6: fixed[0] == unix.AF_INET6, Table: uint32(fixed[4])}
	for _, a := range attrs {
		switch a.kind {
		case unix.FRA_PRIORITY:
			r.Priority = a.u32()
		case unix.FRA_TABLE:
			r.Table = a.u32()
		}
	}
	r.Text = ruleText(fixed, attrs, r.Table)
	return r
}

// ruleText is the rule as `ip rule` prints it, without its priority.
func ruleText(fixed []byte, attrs []attribute, table uint32) string {
	var b strings.Builder
	if binary.NativeEndian.Uint32(fixed[8:])&ruleInverted != 0 {
		b.WriteString("not ")
	}
	b.WriteString("from " + selector(attrs, unix.FRA_SRC, fixed[2], "all"))
	if to := selector(attrs, unix.FRA_DST, fixed[1], ""); to != "" {
		b.WriteString(" to " + to)
	}
	if tos := fixed[3]; tos != 0 {
		fmt.Fprintf(&b, " tos 0x%02x", tos)
	}
	for _, word := range ruleWords {
		for _, a := range attrs {
			if a.kind == word.kind {
				b.WriteString(word.text(a, attrs))
			}
		}
	}
	b.WriteString(ruleAction(fixed[7], attrs, table))
	for _, a := range attrs {
		switch a.kind {
		case unix.FRA_SUPPRESS_PREFIXLEN:
			b.WriteString(suppressText(a))
		case unix.FRA_PROTOCOL:
			b.WriteString(protocolText(a.u8()))
		}
	}
	return b.String()
}

// selector is the prefix that a rule looks for.
func selector(attrs []attribute, kind uint16, bits uint8, none string) string {
	for _, a := range attrs {
		if a.kind == kind {
			prefix := netip.PrefixFrom(a.addr(), int(bits))
			if prefix.IsSingleIP() {
				return prefix.Addr().String()
			}
			return prefix.String()
		}
	}
	return none
}

// ruleWords are what else a rule may look for, in the order of ip(8).
var ruleWords = []struct {
	kind uint16
	text func(a attribute, all []attribute) string
}{
	{unix.FRA_FWMARK, markText},
	{unix.FRA_FWMASK, maskText},
	{unix.FRA_IIFNAME, func(a attribute, _ []attribute) string { return " iif " + a.text() }},
	{unix.FRA_OIFNAME, func(a attribute, _ []attribute) string { return " oif " + a.text() }},
	{unix.FRA_L3MDEV, l3mdevText},
	{unix.FRA_UID_RANGE, func(a attribute, _ []attribute) string {
		return fmt.Sprintf(" uidrange %d-%d", a.u32(), attribute{data: a.data[min(4, len(a.data)):]}.u32())
	}},
	{unix.FRA_IP_PROTO, func(a attribute, _ []attribute) string { return " ipproto " + ipProtocolName(a.u8()) }},
	{unix.FRA_SPORT_RANGE, func(a attribute, _ []attribute) string { return " sport " + portRange(a) }},
	{unix.FRA_DPORT_RANGE, func(a attribute, _ []attribute) string { return " dport " + portRange(a) }},
}

func markText(a attribute, all []attribute) string {
	if a.u32() == 0 {
		return ""
	}
	for _, m := range all {
		if m.kind == unix.FRA_FWMASK && m.u32() != ^uint32(0) {
			return fmt.Sprintf(" fwmark %#x/%#x", a.u32(), m.u32())
		}
	}
	return fmt.Sprintf(" fwmark %#x", a.u32())
}

// maskText is for a mask without a mark: it looks for packets without those bits.
func maskText(a attribute, all []attribute) string {
	for _, m := range all {
		if m.kind == unix.FRA_FWMARK && m.u32() != 0 {
			return ""
		}
	}
	if a.u32() == 0 {
		return ""
	}
	return fmt.Sprintf(" fwmark 0/%#x", a.u32())
}

func l3mdevText(a attribute, _ []attribute) string {
	if a.u8() == 0 {
		return ""
	}
	return " lookup [l3mdev-table]"
}

func suppressText(a attribute) string {
	if a.u32() == ^uint32(0) { // no limit
		return ""
	}
	return fmt.Sprintf(" suppress_prefixlength %d", a.u32())
}

func portRange(a attribute) string {
	first, last := a.u16(), attribute{data: a.data[min(2, len(a.data)):]}.u16()
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// ruleAction is what the rule does with the packets that it finds.
func ruleAction(action uint8, attrs []attribute, table uint32) string {
	switch action {
	case unix.FR_ACT_TO_TBL:
		if table == 0 { // l3mdev
			return ""
		}
		return " lookup " + tableName(table)
	case actionGoto:
		for _, a := range attrs {
			if a.kind == unix.FRA_GOTO {
				return fmt.Sprintf(" goto %d", a.u32())
			}
		}
		return " goto none"
	case unix.FR_ACT_NOP:
		return " nop"
	case unix.FR_ACT_BLACKHOLE:
		return " blackhole"
	case unix.FR_ACT_UNREACHABLE:
		return " unreachable"
	case unix.FR_ACT_PROHIBIT:
		return " prohibit"
	default:
		return fmt.Sprintf(" action %d", action)
	}
}

func tableName(table uint32) string {
	switch table {
	case tableDefault:
		return "default"
	case netstate.TableMain:
		return "main"
	case netstate.TableLocal:
		return "local"
	default:
		return fmt.Sprint(table)
	}
}

// protocolText is who made the rule, where that was not the kernel or nobody.
func protocolText(protocol uint8) string {
	switch protocol {
	case unix.RTPROT_UNSPEC, netstate.ProtocolKernel:
		return ""
	case unix.RTPROT_BOOT:
		return " proto boot"
	case unix.RTPROT_STATIC:
		return " proto static"
	default:
		return fmt.Sprintf(" proto %d", protocol)
	}
}

func ipProtocolName(protocol uint8) string {
	switch protocol {
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_ICMPV6:
		return "ipv6-icmp"
	default:
		return fmt.Sprintf("ipproto-%d", protocol)
	}
}
