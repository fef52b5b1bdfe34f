// Package discover finds, in a snapshot of a pod's network namespace, the
// interface that the virtual machine is to take over, or to stand behind, and the
// lease that it is to be given.
//
// It is pure: the snapshot, the pod's host name and resolv.conf and the
// configuration come in as values, and the same values give the same result.
// What cannot be handed to a guest never stops it: it becomes a warning.
package discover
