// Package dnsforward is what stands behind --dns-forward: the guest of a pod whose
// nameserver it cannot reach (127.0.0.11 of a container engine's own network,
// 127.0.0.53 of systemd-resolved) asks an address of podwire's instead, and podwire
// asks the pod's nameservers on its behalf.
//
// A Relay passes questions on and answers back, over UDP and TCP, and changes
// nothing in either but the message's id (RFC 5625 §3: forward verbatim). It is no
// resolver and no cache, follows no referrals, validates nothing, and knows neither
// names nor record types, but for the zone transfers that it refuses. A Pump joins
// the guest's tap to the tunnel device behind which the relay listens, and gives the guest
// another address there (Peers), so that it is the same with every binding.
//
// Neither opens a socket or a device: listeners, dialer and tunnel are given, so that they
// live in the pod's network namespace. The guest is taken for hostile: what it can
// have at a time is counted, and no input makes the relay panic.
package dnsforward
