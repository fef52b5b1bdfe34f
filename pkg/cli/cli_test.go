package cli

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/podwire/podwire/internal/podscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"podwire": func() { os.Exit(Execute(NewCommand())) },
	})
}

// TestScripts runs the scripts in testdata over the real program.
func TestScripts(t *testing.T) { testscript.Run(t, podscript.Params(t)) }
