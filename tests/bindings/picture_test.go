package bindings

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"

	"github.com/podwire/podwire/tests/bindings/picture"
	"github.com/podwire/podwire/tests/pod"
)

var update = flag.Bool("update", false, "write what the kernel says to the testdata of picture")

// bytecode is the program of a filter, which is long and in no picture.
var bytecode = regexp.MustCompile(`"bytecode":\{[^}]*\[[^]]*\][^}]*\}`)

// kernel asks node, pod and guest how they are wired.
func (w *world) kernel() (k picture.Kernel, err error) {
	ask := func(s *pod.Space, args ...string) json.RawMessage {
		if err != nil {
			return nil
		}
		var out string
		out, err = s.Run(w.ctx, args[0], args[1:]...)
		return json.RawMessage(out)
	}
	k.Node = ask(w.node.Space, "ip", "-j", "-d", "address")
	k.Pod = ask(w.vm.Space, "ip", "-j", "-d", "address")
	k.Guest = ask(w.guest.Space, "ip", "-j", "-d", "address")
	k.Routes = ask(w.vm.Space, "ip", "-j", "-4", "route")
	k.Routes6 = ask(w.vm.Space, "ip", "-j", "-6", "route")
	k.Tables = ask(w.vm.Space, "nft", "-j", "list", "ruleset")
	k.Filters, k.Sending = map[string]json.RawMessage{}, map[string]json.RawMessage{}
	for _, dev := range []string{"eth0", w.to.Tap} {
		for hook, of := range map[string]map[string]json.RawMessage{"ingress": k.Filters, "egress": k.Sending} {
			filters := ask(w.vm.Space, "tc", "-j", "filter", "show", "dev", dev, hook)
			of[dev] = bytecode.ReplaceAll(filters, []byte(`"bytecode":{}`))
		}
	}
	return k, err
}

// picture draws the pod, and leaves it for the page.
func (w *world) picture() error {
	k, err := w.kernel()
	if err != nil {
		return err
	}
	if *update {
		text, err := json.MarshalIndent(k, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join("picture", "testdata", w.binding.name+".json"), append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	drawn, err := picture.Draw(k)
	if err != nil {
		return err
	}
	return leave("picture-"+w.binding.name+".json", drawn)
}
