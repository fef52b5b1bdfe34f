package cli

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/podwire/podwire/internal/podscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"podwire": podwire,
		"qemu":    podwire, // as libvirt calls its hook
	})
}

func podwire() {
	if IsCNI(os.Args) {
		os.Exit(CNI())
	}
	os.Args = AsHook(os.Args)
	os.Exit(Execute(NewCommand()))
}

// TestScripts runs the scripts in testdata over the real program.
func TestScripts(t *testing.T) { testscript.Run(t, podscript.Params(t)) }
