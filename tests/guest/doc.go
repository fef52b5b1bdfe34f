// Package guest is the virtual machine of podwire's tests and of its demo: a
// distribution's own kernel with a busybox userland that takes its network from
// DHCP, as an unmodified guest does, and says on its console what it was told.
//
// It builds the image, writes the libvirt domain, reads the console, and finds
// out whether KVM works here. It is not a part of podwire: it knows DHCP only
// from the guest's side, so that it can witness for it.
package guest
