package launchcmd

import (
	"errors"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/podwire/podwire/internal/podscript"
	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/cli"
	"github.com/podwire/podwire/pkg/launcher"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"podwire":          func() { os.Exit(cli.Execute(cli.NewCommand())) },
		"podwire-launcher": func() { os.Exit(cli.Execute(NewCommand())) },
	})
}

// TestScripts runs the scripts in testdata over the real programs. Those named
// mock start machines of libvirt's mock hypervisor, which is in its client
// library.
func TestScripts(t *testing.T) {
	params := podscript.Params(t)
	params.Condition = func(cond string) (bool, error) {
		switch {
		case cond != "libvirt":
			return false, errors.New("unknown condition " + cond)
		case !withLibvirt && os.Getenv("CI") == "true":
			return false, errors.New("built without the tag libvirt_dlopen, so that the mock hypervisor would be skipped")
		}
		return withLibvirt, nil
	}
	testscript.Run(t, params)
}

// A network that is left under a machine is for a person to look at, and the
// error says so once.
func TestANetworkThatIsLeft(t *testing.T) {
	err := error(stillWired{errors.Join(errors.New("libvirt is gone"), launcher.ErrNetworkLeft)})
	if _, ok := errors.AsType[*apply.UndoError](err); !ok {
		t.Error("it has another exit code than 3")
	}
	if got, want := err.Error(), "libvirt is gone\n"+launcher.ErrNetworkLeft.Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
