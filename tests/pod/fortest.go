package pod

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/checkout"
)

// NewTestNode makes a node for a test, which has to end within the given time. Without
// root there is none: then the test is skipped, but in CI it fails.
func NewTestNode(t testing.TB, limit time.Duration) (context.Context, checkout.Dir, *Node) {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("making namespaces takes root")
		}
		t.Skip("making namespaces takes root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	dir, err := checkout.Find()
	if err != nil {
		t.Fatal(err)
	}
	node, err := NewNode(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	return ctx, dir, node
}

// Settled is Dump, by lines, once duplicate address detection is done and the kernel has
// added the routes to its IPv6 addresses, which it does some time after these. They are
// sorted: the kernel does not list IPv6 routes in an order that means anything.
func (p *Pod) Settled(ctx context.Context) ([]string, error) {
	for {
		text, err := p.Dump(ctx)
		if err != nil {
			return nil, err
		}
		unsettled := unsettled(text)
		if unsettled == "" {
			lines := strings.Split(text, "\n")
			slices.Sort(lines)
			return lines, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("%s in\n%s: %w", unsettled, text, context.Cause(ctx))
		}
	}
}

// unsettled says what is still to come in a dump.
func unsettled(text string) string {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "inet6" {
			continue
		}
		addr, _, _ := strings.Cut(words[1], "/")
		switch {
		case strings.Contains(line, "tentative"):
			return addr + " stays tentative"
		case !strings.Contains(text, "local "+addr+" dev "):
			return addr + " has no route"
		}
	}
	return ""
}
