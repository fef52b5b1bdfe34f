package local

import (
	"testing"

	"github.com/podwire/podwire/tests/world"
)

func TestMain(m *testing.M) { world.Main(m, "podwire", "podwire-launcher") }
