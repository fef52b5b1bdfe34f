// Package clients is the matrix of the network clients that a guest may have: for
// each client, family and binding, whether podwire tells it all that the pod's network
// has, as that client shows it. The clients and what each of them cannot do are in
// tests/client; pods of all shapes are in tests/matrix.
//
// It prints the matrix as a table, and with PODWIRE_MATRIX_OUT it writes that
// directory's clients.txt and clients.json, from which docs/compatibility.md is
// made.
package clients
