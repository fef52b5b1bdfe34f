// Package server has the tests of a server that does not die: it is killed again and
// again under a guest that renews its lease.
package server
