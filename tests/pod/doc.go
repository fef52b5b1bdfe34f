// Package pod makes nodes and pods for tests and for the demo, the way a
// container runtime does: namespaces, wired by the real CNI plugins, with a
// resolv.conf and a host name.
//
// All of it lives in namespaces whose first process hangs on a pipe from the
// program that made them. When that program closes them, or dies in whatever
// way, the processes, the links and the files in there are gone; nothing of the
// machine's own network is ever touched.
//
// It is not a container runtime: pods have the machine's own files.
package pod
