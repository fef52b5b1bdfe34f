//go:build linux

package kernel

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// What a child's own children hold open is read until they close it.
	const child = "github.com/podwire/podwire/pkg/kernel.(*Child)."
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(child+"logLines.func1"), goleak.IgnoreAnyFunction(child+"drain.func1"))
}
