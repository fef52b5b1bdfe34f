package dhcp4

import "fmt"

// The options that podwire reads or writes (RFC 2132, unless said otherwise).
const (
	optPad           = 0
	optMask          = 1
	optRouter        = 3
	optDNS           = 6
	optHostname      = 12
	optDomain        = 15
	optMTU           = 26
	optBroadcast     = 28
	optNTP           = 42
	optRequestedIP   = 50
	optLeaseTime     = 51
	optOverload      = 52
	optMessageType   = 53
	optServerID      = 54
	optParams        = 55
	optMessage       = 56
	optMaxSize       = 57
	optRenewal       = 58 // T1
	optRebinding     = 59 // T2
	optVendorClass   = 60
	optClientID      = 61
	optTFTPServer    = 66
	optBootFile      = 67
	optRapidCommit   = 80  // RFC 4039
	optFQDN          = 81  // RFC 4702
	optSearch        = 119 // RFC 3397
	optRoutes        = 121 // RFC 3442
	optPrivateFirst  = 224 // RFC 3942: 224 to 254 are for private use
	optRoutesWindows = 249 // the same as 121, from before it had a number
	optPrivateLast   = 254
	optEnd           = 255
)

// optionNames are the words for a log.
var optionNames = map[uint8]string{
	optDNS:           "DNS servers",
	optHostname:      "hostname",
	optDomain:        "domain",
	optMTU:           "MTU",
	optBroadcast:     "broadcast address",
	optNTP:           "NTP servers",
	optMessage:       "message",
	optRenewal:       "renewal time",
	optRebinding:     "rebinding time",
	optClientID:      "client identifier",
	optTFTPServer:    "TFTP server",
	optBootFile:      "boot file",
	optSearch:        "domain search",
	optRoutes:        "classless routes",
	optRoutesWindows: "classless routes, Microsoft's number",
}

// optionText names an option as users know it: by its number first.
func optionText(code uint8) string {
	name, ok := optionNames[code]
	if !ok {
		return fmt.Sprintf("%d", code)
	}
	return fmt.Sprintf("%d (%s)", code, name)
}

// everything is what a client without a parameter request list is sent, in this
// order, and behind it the user's own options.
var everything = []uint8{
	optLeaseTime, optServerID, optMask, optRouter, optDNS, optHostname, optDomain, optMTU, optBroadcast,
	optNTP, optRenewal, optRebinding, optTFTPServer, optBootFile, optSearch, optRoutes,
}
