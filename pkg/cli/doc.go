// Package cli holds podwire's commands: their flags and output, and the only
// wiring of real parts (kernel, state directory, server) to each other.
//
// It decides nothing about networks; what a command does to a pod is in Agent,
// which other programs, such as the launcher, use as well.
package cli
