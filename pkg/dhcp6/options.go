package dhcp6

import (
	"encoding/binary"
	"fmt"
)

// The options that podwire reads or writes (RFC 8415 §21, unless said otherwise).
const (
	optClientID    = 1
	optServerID    = 2
	optIANA        = 3
	optIATA        = 4 // gone from RFC 9915
	optIAAddr      = 5
	optRequest     = 6
	optPreference  = 7
	optStatus      = 13
	optRapidCommit = 14
	optVendorClass = 16
	optDNS         = 23 // RFC 3646 §3
	optSearch      = 24 // RFC 3646 §4
	optIAPD        = 25
	optSNTP        = 31 // RFC 4075, which RFC 5908 replaces: dhclient asks for it
	optRefresh     = 32
	optFQDN        = 39 // RFC 4704
	optNTP         = 56 // RFC 5908
	optBootURL     = 59 // RFC 5970 §3.1
)

const (
	headerLen  = 4 // RFC 8415 §8: the type and three octets of transaction identifier
	optionHead = 4 // RFC 8415 §21.1: code and length
)

// optionNames are the words for a log.
var optionNames = map[uint16]string{
	optIANA:    "addresses",
	optIATA:    "temporary addresses",
	optDNS:     "DNS servers",
	optSearch:  "domain search",
	optIAPD:    "delegated prefixes",
	optSNTP:    "SNTP servers",
	optRefresh: "refresh time",
	optFQDN:    "host name",
	optNTP:     "NTP server",
	optBootURL: "boot file",
}

// optionText names an option as users know it: by its number first.
func optionText(code uint16) string {
	name, ok := optionNames[code]
	if !ok {
		return fmt.Sprintf("%d", code)
	}
	return fmt.Sprintf("%d (%s)", code, name)
}

// walk visits the options of a message, or of an option that holds some.
func walk(b []byte, visit func(code uint16, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < optionHead {
			return fmt.Errorf("%d octets are left behind the last option", len(b))
		}
		code, end := binary.BigEndian.Uint16(b), optionHead+int(binary.BigEndian.Uint16(b[2:]))
		if end > len(b) {
			return fmt.Errorf("option %d goes beyond the end", code)
		}
		if err := visit(code, b[optionHead:end]); err != nil {
			return err
		}
		b = b[end:]
	}
	return nil
}
