package house

import (
	"go/ast"
	"strings"
	"testing"
)

// wallClock is what takes a time's monotonic reading away, or reads a time of day from
// elsewhere: what is compared by it goes wrong when somebody sets the clock.
var wallClock = map[string]bool{
	"Unix": true, "UnixMilli": true, "UnixMicro": true, "UnixNano": true, "ModTime": true,
	"CLOCK_REALTIME": true, "CLOCK_REALTIME_COARSE": true, "Gettimeofday": true,
}

// harmless are the places that may use it, and why.
var harmless = map[string]string{
	"pkg/cli/cnigc.go ModTime":      "what a crash left is removed some time later, under the lock: too early or too late harms nobody",
	"pkg/cli/cniinstall.go ModTime": "it is compared with itself, as a file's identity is",
}

// TestWallClockIsForStampsAlone holds that nothing podwire does depends on the time of day:
// it may be set at any moment, under a server that runs as between a setup and a teardown.
func TestWallClockIsForStampsAlone(t *testing.T) {
	used := map[string]bool{}
	for _, f := range files(t) {
		if f.test || !strings.HasPrefix(f.path, "pkg/") && !strings.HasPrefix(f.path, "cmd/") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name := dependsOnClock(call)
			if name == "" {
				return true
			}
			place := f.path + " " + name
			used[place] = true
			if harmless[place] == "" {
				t.Errorf("%s: it depends on the time of day; if that cannot do harm, say here why", place)
			}
			return true
		})
	}
	for place := range harmless {
		if !used[place] {
			t.Errorf("%s: it is not there any more", place)
		}
	}
}

// dependsOnClock names what a call takes of the time of day: an argument, or a method of a
// time. time.Unix of constants is a deadline that has passed, whatever the clock says.
func dependsOnClock(call *ast.CallExpr) string {
	for _, arg := range call.Args {
		if sel, ok := arg.(*ast.SelectorExpr); ok && strings.HasPrefix(sel.Sel.Name, "CLOCK_") && wallClock[sel.Sel.Name] {
			return sel.Sel.Name
		}
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !wallClock[sel.Sel.Name] {
		return ""
	}
	constant := len(call.Args) > 0
	for _, arg := range call.Args {
		_, literal := arg.(*ast.BasicLit)
		constant = constant && literal
	}
	if constant {
		return ""
	}
	return sel.Sel.Name
}
