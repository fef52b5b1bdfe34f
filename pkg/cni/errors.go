package cni

import "github.com/containernetworking/cni/pkg/types"

// The error codes beside those of the CNI library. Those from 100 on are a plugin's
// own.
const (
	CodePod      uint = 100 // the pod asks for what it cannot have, or lacks what it needs
	CodeWiring   uint = 101 // the pod could not be wired; its network is as it was found
	CodeHalfDone uint = 102 // and could not be put back either
	CodeDrift    uint = 103 // CHECK: the pod is not wired as it was
)

// Fail is an error as CNI runtimes understand it.
func Fail(code uint, msg, details string) error { return types.NewError(code, msg, details) }
