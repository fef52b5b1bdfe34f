// Package bindings runs one table of checks over each of podwire's bindings: the same
// code for all, and what is expected of each in one place. Its benchmark measures
// them, side by side and in turn. What was seen, and a picture of each wired pod, is
// left in the directory that PODWIRE_BINDINGS_OUT names: docs/bindings.md is
// made from that.
//
// It is about how the bindings differ, on one pod network. That all pod networks work
// with each is tests/matrix's to show.
package bindings
