// Package matrix holds the test of podwire in the network of every CNI plugin: real
// plugins where they run here, and hand-made shapes of the others, each with IPv4,
// IPv6 and both, and with every binding. In each, a guest with a real client must reach
// what its pod reached, as the pod, and be reached at the pod's own addresses; and
// afterwards the pod must be as it was.
//
// It does not look at what the client was told, only at what comes of it; and there is
// nothing in it but tests.
package matrix
