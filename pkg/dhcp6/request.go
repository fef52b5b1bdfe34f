package dhcp6

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/podwire/podwire/pkg/wiretext"
)

// Request is what a client's message says, as far as the answer depends on it.
type Request struct {
	Type dhcpv6.MessageType
	XID  [3]byte // the transaction identifier; of a relay's message, other things

	ClientID    []byte   // option 1, a DUID; nil where there is none
	ServerID    []byte   // option 2, the same
	Asked       []uint16 // option 6; empty where the client sent no list
	RapidCommit bool     // option 14
	FQDN        bool     // option 39 was sent
	FQDNFlags   uint8    // of option 39
	IAs         []IA     // options 3, 4 and 25, in order

	// Hostname (option 39) and VendorClass (option 16) are what the client calls
	// itself, for a log: printable ASCII, cut to a length.
	Hostname    string
	VendorClass string
}

// IA is an identity association: what a client wants addresses or prefixes for
// (RFC 8415 §12).
type IA struct {
	Kind  IAKind
	ID    uint32       // the IAID, of the client's choice
	Addrs []netip.Addr // that the client names, each once
}

// IAKind is the option that an identity association came in.
type IAKind uint16

// The kinds that there are.
const (
	IANA IAKind = optIANA // addresses
	IATA IAKind = optIATA // temporary addresses
	IAPD IAKind = optIAPD // delegated prefixes
)

// String returns the name that RFC 8415 uses.
func (k IAKind) String() string {
	switch k {
	case IANA:
		return "IA_NA"
	case IATA:
		return "IA_TA"
	default:
		return "IA_PD"
	}
}

// String returns the kind and the IAID, for a log.
func (ia IA) String() string { return fmt.Sprintf("%s %08x", ia.Kind, ia.ID) }

const (
	leastDUID   = 2 + 1 // RFC 8415 §11.1: the type, and from 1 to 128 octets
	longestDUID = 2 + 128
)

// Parse reads one DHCPv6 message from a UDP payload. It refuses what is
// malformed; whether a message is one to answer, Reply decides. Of messages that
// clients do not send, nothing but the type is looked at.
func Parse(payload []byte) (*Request, error) {
	if len(payload) < headerLen {
		return nil, errors.New("reading DHCPv6 message: shorter than its header")
	}
	r := &Request{Type: dhcpv6.MessageType(payload[0]), XID: [3]byte(payload[1:headerLen])}
	if !fromClient(r.Type) {
		return r, nil
	}
	if err := walk(payload[headerLen:], r.read); err != nil {
		return nil, fmt.Errorf("reading DHCPv6 message: %w", err)
	}
	return r, nil
}

// fromClient reports whether clients send such messages to servers.
func fromClient(t dhcpv6.MessageType) bool {
	switch t {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeConfirm,
		dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind, dhcpv6.MessageTypeRelease,
		dhcpv6.MessageTypeDecline, dhcpv6.MessageTypeInformationRequest:
		return true
	default:
		return false
	}
}

// read takes in one option of the message. Of those that may be there once, the
// first counts. What is malformed in an option that only a log or a wish depends
// on is passed over.
func (r *Request) read(code uint16, v []byte) error {
	switch code {
	case optClientID:
		if len(v) < leastDUID || len(v) > longestDUID {
			return fmt.Errorf("a client identifier of %d octets", len(v))
		}
		if r.ClientID == nil {
			r.ClientID = slices.Clone(v)
		}
	case optServerID:
		if r.ServerID == nil {
			r.ServerID = slices.Clone(v)
		}
	case optIANA, optIATA, optIAPD:
		return r.readIA(IAKind(code), v)
	case optRequest:
		for ; len(v) >= 2; v = v[2:] {
			r.Asked = append(r.Asked, binary.BigEndian.Uint16(v))
		}
	case optRapidCommit:
		r.RapidCommit = true
	case optFQDN:
		if len(v) > 0 && !r.FQDN { // RFC 4704 §4: flags, then the name
			r.FQDN, r.FQDNFlags, r.Hostname = true, v[0], wiretext.Name(v[1:])
		}
	case optVendorClass:
		if r.VendorClass == "" {
			r.VendorClass = vendorClass(v)
		}
	}
	return nil
}

func (r *Request) readIA(kind IAKind, v []byte) error {
	fixed := 12 // RFC 8415 §21.4 and §21.21: IAID, T1, T2
	if kind == IATA {
		fixed = 4 // RFC 8415 §21.5: the IAID alone
	}
	if len(v) < fixed {
		return fmt.Errorf("an %s of %d octets", kind, len(v))
	}
	ia := IA{Kind: kind, ID: binary.BigEndian.Uint32(v)}
	err := walk(v[fixed:], func(code uint16, v []byte) error {
		if code != optIAAddr {
			return nil
		}
		if len(v) < 24 { // RFC 8415 §21.6: the address and two lifetimes
			return fmt.Errorf("an address option of %d octets", len(v))
		}
		// The unspecified address is no wish (RFC 8415 §21.6).
		if a := netip.AddrFrom16([16]byte(v)); !a.IsUnspecified() {
			ia.Addrs = append(ia.Addrs, a)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	slices.SortFunc(ia.Addrs, netip.Addr.Compare)
	ia.Addrs = slices.Compact(ia.Addrs)
	r.IAs = append(r.IAs, ia)
	return nil
}

// vendorClass reads the texts behind the enterprise number (RFC 8415 §21.16), as
// far as they go.
func vendorClass(v []byte) string {
	if len(v) < 4 {
		return ""
	}
	var texts []string
	for v = v[4:]; len(v) >= 2; {
		end := 2 + int(binary.BigEndian.Uint16(v))
		if end > len(v) {
			break
		}
		if text := wiretext.Printable(string(v[2:end])); text != "" {
			texts = append(texts, text)
		}
		v = v[end:]
	}
	return wiretext.Printable(strings.Join(texts, " "))
}
