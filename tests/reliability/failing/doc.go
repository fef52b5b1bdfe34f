// Package failing has the tests of calls that fail under podwire: every netlink request,
// ioctl, file and lock once with each of some errors, a state directory that is full or
// read-only, and tables that change while they are read. After each the pod's network is as
// it was found or as planned, and the exit code says which.
package failing
