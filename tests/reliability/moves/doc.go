// Package moves has the tests of a pod whose world moves under podwire: taps that are
// deleted, hypervisors that die and come again, sandboxes that are made anew, interfaces
// that are renamed, clocks that jump, several podwires at once, signals at any moment, and
// the same again ten thousand times. All of it is real: namespaces, QEMU, processes.
package moves
