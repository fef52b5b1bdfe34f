package dhcp4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/wiretext"
)

// Request is what a client's message says, as far as the answer depends on it.
type Request struct {
	Op    uint8              // 1 for BOOTREQUEST
	HType uint8              // 1 for Ethernet
	HLen  uint8              // as sent: it may be more than the 16 octets there are
	Type  dhcpv4.MessageType // option 53; MessageTypeNone where there is none

	XID    [4]byte
	Flags  uint16
	CHAddr netstate.MAC // the first six octets of the field, whatever HLen says
	CIAddr netip.Addr   // not set for 0.0.0.0, like the addresses below
	GIAddr netip.Addr

	RequestedIP netip.Addr // option 50
	ServerID    netip.Addr // option 54
	Params      []uint8    // option 55, in order; empty where the client sent no list
	MaxSize     int        // option 57, at least 576, which it is without one
	ClientID    []byte     // option 61
	RapidCommit bool       // option 80

	// Hostname (option 12, else 81) and VendorClass (option 60) are what the
	// client calls itself, for a log: printable ASCII, cut to a length.
	Hostname    string
	VendorClass string
}

const (
	bootRequest   = 1
	bootReply     = 2
	hardwareEther = 1      // RFC 2131 §2: as in ARP
	flagBroadcast = 0x8000 // RFC 2131 §2, figure 2
	leastMaxSize  = 576    // RFC 2132 §9.10: the least that a client may ask for
	mostParams    = 254    // option codes that there are
)

// Parse reads one DHCP message from a UDP payload. It refuses what is malformed;
// whether a message is one to answer, Reply decides.
func Parse(payload []byte) (*Request, error) {
	p, err := dhcpv4.FromBytes(payload)
	if err != nil {
		return nil, fmt.Errorf("reading DHCPv4 message: %w", err)
	}
	if err := addOverloaded(p.Options, payload); err != nil {
		return nil, err
	}
	r := &Request{
		Op: uint8(p.OpCode), HType: payload[1], HLen: payload[2],
		XID:    p.TransactionID,
		Flags:  p.Flags,
		CHAddr: netstate.MAC(payload[28:34]),
		CIAddr: addrOf(payload[12:16]), GIAddr: addrOf(payload[24:28]),
		Params:      p.Options[optParams][:min(len(p.Options[optParams]), mostParams)],
		MaxSize:     leastMaxSize,
		ClientID:    p.Options[optClientID],
		RapidCommit: p.Options.Has(dhcpv4.GenericOptionCode(optRapidCommit)),
		VendorClass: wiretext.Printable(string(p.Options[optVendorClass])),
		Hostname:    hostname(p.Options),
	}
	if v := p.Options[optMaxSize]; len(v) == 2 {
		r.MaxSize = max(leastMaxSize, int(binary.BigEndian.Uint16(v)))
	}
	return r, r.readFixed(p.Options)
}

// readFixed reads the options whose length is fixed and whose meaning is too
// much to guess at.
func (r *Request) readFixed(o dhcpv4.Options) error {
	for _, want := range []struct {
		code uint8
		size int
	}{{optMessageType, 1}, {optRequestedIP, 4}, {optServerID, 4}} {
		if v, ok := o[want.code]; ok && len(v) != want.size {
			return fmt.Errorf("reading DHCPv4 message: option %d has %d octets, not %d", want.code, len(v), want.size)
		}
	}
	if v := o[optMessageType]; v != nil {
		r.Type = dhcpv4.MessageType(v[0])
	}
	r.RequestedIP, r.ServerID = addrOf(o[optRequestedIP]), addrOf(o[optServerID])
	return nil
}

// addOverloaded adds the options that a client put into the file and sname
// fields, in the order that RFC 3396 §5 reads the three areas in. The library
// looks at the first alone.
func addOverloaded(o dhcpv4.Options, payload []byte) error {
	v, ok := o[optOverload]
	if !ok {
		return nil
	}
	if len(v) != 1 || v[0] < 1 || v[0] > 3 {
		return errors.New("reading DHCPv4 message: option 52 is none of 1, 2, 3")
	}
	how := overload(v[0])
	for _, area := range []struct {
		used bool
		data []byte
	}{{how.hasFile(), payload[fileAt:cookieAt]}, {how.hasSname(), payload[snameAt:fileAt]}} {
		if !area.used {
			continue
		}
		if err := o.FromBytes(area.data); err != nil {
			return fmt.Errorf("reading DHCPv4 message: overloaded options: %w", err)
		}
	}
	return nil
}

// addrOf reads four octets; 0.0.0.0 and nothing at all are no address.
func addrOf(b []byte) netip.Addr {
	if len(b) != 4 || [4]byte(b) == [4]byte{} {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(b))
}

// hostname returns what the client calls itself.
func hostname(o dhcpv4.Options) string {
	if name := wiretext.Printable(string(o[optHostname])); name != "" {
		return name
	}
	fqdn := o[optFQDN]
	if len(fqdn) < 3 { // RFC 4702 §2: flags and two result codes, then the name
		return ""
	}
	if fqdn[0]&0x04 == 0 { // the E bit: without it, the name is ASCII
		return wiretext.Printable(string(fqdn[3:]))
	}
	return wiretext.Name(fqdn[3:]) // RFC 4702 §2.3.1 allows no pointers
}
