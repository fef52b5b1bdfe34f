package house

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// TestNoGoroutineOfAServerStartsBare: a panic in any goroutine ends the program, and
// with it the network of every guest that it serves. So those of a server are started
// by internal/survive, which ends the panic instead.
func TestNoGoroutineOfAServerStartsBare(t *testing.T) {
	served := []string{"pkg/serve/", "pkg/dnsforward/", "pkg/cli/serve", "pkg/cli/dns", "pkg/cli/follow", "pkg/cli/confine"}
	started := 0
	for _, f := range files(t) {
		if f.test || !slices.ContainsFunc(served, func(prefix string) bool { return strings.HasPrefix(f.path, prefix) }) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch how := startedBy(n); how {
			case "":
			case "survive.Go", "survive.AfterFunc":
				started++
			default:
				t.Errorf("%s starts a goroutine by %s: use internal/survive", f.path, how)
			}
			return true
		})
	}
	if started < 10 {
		t.Errorf("only %d goroutines found: the rule would hold of nothing", started)
	}
}

// startedBy says how a node starts a goroutine, if it does.
func startedBy(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "go"
	case *ast.SelectorExpr:
		if n.Sel.Name != "Go" && n.Sel.Name != "AfterFunc" {
			return ""
		}
		if x, ok := n.X.(*ast.Ident); ok {
			return x.Name + "." + n.Sel.Name
		}
		return "a method " + n.Sel.Name
	}
	return ""
}
