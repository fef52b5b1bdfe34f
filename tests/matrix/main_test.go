package matrix

import (
	"testing"

	testworld "github.com/podwire/podwire/tests/world"
)

func TestMain(m *testing.M) { testworld.Main(m, "podwire", "podwire-launcher") }
