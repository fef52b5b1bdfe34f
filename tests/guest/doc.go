// Package guest is the virtual machine of podwire's tests and of its demo: a
// distribution's own kernel with a busybox userland that takes its network from
// DHCP, as an unmodified guest does, and says on its console what it was told.
//
// Its kernel takes what IPv6 routers advertise, routes of RFC 4191 included. Where one
// does, the guest asks DHCPv6 too, in the background: one without IPv6 is ready no
// later for it. The kernel command line decides (podwire.ip6), and the console has the
// lines "lease6", as "lease" of DHCPv4, and "dhcp6", as "dhcp".
//
// It builds the image, writes the libvirt domain, reads the console, and finds
// out whether KVM works here. It is not a part of podwire: it knows DHCP only
// from the guest's side, so that it can witness for it.
package guest
