// Package follow has the tests of a pod network that changes while the VM runs: what its
// CNI plugin gives and takes, status names, the guest is told, and setup takes over. The
// guests are real DHCP clients, and kernels that hear router advertisements.
package follow
