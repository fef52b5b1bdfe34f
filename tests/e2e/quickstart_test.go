//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/cluster/page"
)

// TestQuickstart types what the page says, in one shell at the top of the
// checkout: it makes a cluster and a VM, and the last of the commands shows that
// the VM is there.
func TestQuickstart(t *testing.T) {
	dir, err := checkout.Find()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fromTop(dir, options.docs))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := page.Blocks(string(text), "quickstart")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-e", "-c", script(blocks))
	cmd.Dir = string(dir)
	// The first time it takes minutes, so it shows what it does.
	var out strings.Builder
	cmd.Stdout = io.MultiWriter(os.Stdout, &out)
	cmd.Stderr = cmd.Stdout
	if err := cmd.Run(); err != nil {
		t.Fatalf("running the commands of %s: %v", options.docs, err)
	}
	parts := strings.Split(out.String(), marker)
	if last := parts[len(parts)-1]; !greeting.MatchString(last) {
		t.Errorf("the last of the commands printed %q, which is not the guest's greeting", last)
	}
}

// marker comes before what a block prints.
const marker = "===== commands from line "

var greeting = regexp.MustCompile(`(?m)^hello from \S+ at [0-9a-f.:]+\r?$`)

// script puts the blocks together, each after its marker.
func script(blocks []page.Block) string {
	var b strings.Builder
	for _, block := range blocks {
		fmt.Fprintf(&b, "echo '%s%d'\n%s", marker, block.Line, block.Commands)
	}
	return b.String()
}
