// Package launcher is the life of one libvirt domain in a pod: it waits for
// libvirt, has the pod's network wired, starts the domain with the wired
// interfaces in it, reports what happens to it, and ends when it ends.
//
// One rule holds on every way out: the pod's network is put back if, and only
// if, no machine uses it. A launcher that fails under a running machine, because
// libvirt is gone or because of a fault of its own, leaves the network as it is,
// so that the next launcher adopts both and the guest notices nothing.
//
// The package knows nothing of bridges or DHCP; those are behind Network. It is
// built without libvirt's headers and without linking libvirt: with the build
// tag libvirt_dlopen (and cgo) the library is loaded when first needed, and
// without the tag there is none, which is enough for the tests of the logic.
package launcher
