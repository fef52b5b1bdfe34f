// Package soak has a real guest renew its lease every second, for as long as it is told to,
// while whatever can go wrong around it does: see "make soak".
package soak
