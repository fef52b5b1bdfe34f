// Package cni holds what podwire's chained CNI plugin decides without touching
// anything: what a network's configuration says, whether a pod asks to be wired
// and with which settings, what the result is, and how a node's list of plugins
// comes to hold podwire's.
//
// It does no wiring and no file is opened here; package cli does both. What
// comes from the pod (annotations, the volume that its state is published in)
// is taken as hostile, what comes from the node or its runtime as given.
package cni
