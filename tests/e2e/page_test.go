//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/cluster/page"
)

// pageSays returns the commands of docs/kubernetes.md that are marked with a name.
func (w *world) pageSays(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(fromTop(w.dir, filepath.Join("docs", "kubernetes.md")))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := page.Blocks(string(text), name)
	if err != nil {
		t.Fatal(err)
	}
	if len(blocks) > 1 {
		t.Fatalf("the page has %d blocks of commands for %q, and the test knows of one", len(blocks), name)
	}
	return blocks[0].Commands
}

// typeIn runs commands as a reader of the page would, at the top of the checkout.
func (w *world) typeIn(t *testing.T, limit time.Duration, commands string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-e", "-c", commands)
	cmd.Dir = string(w.dir)
	cmd.Env = os.Environ()
	if options.kubeconfig != "" {
		cmd.Env = append(cmd.Env, "KUBECONFIG="+options.kubeconfig)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("running %q: %v: %s", commands, err, out)
	}
}
