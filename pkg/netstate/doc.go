// Package netstate describes what a Linux network namespace holds, as plain
// values on net/netip: links, addresses, routes, neighbours, rules, queueing
// disciplines and filters.
//
// It is the vocabulary that the kernel package fills in and that discover, plan
// and apply reason about. It knows no netlink, opens nothing and decides
// nothing; everything in it can be written to JSON and read back without loss,
// because the state file is made of it.
package netstate
