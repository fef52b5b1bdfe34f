// Package local holds the tests of podwire as a whole: its own programs, as they
// are built, in pods that real CNI plugins made, against real DHCP clients and
// real guests. There is nothing in it but tests.
package local
