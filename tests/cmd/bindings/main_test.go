package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	someTable = `[
		{"check": "probes", "binding": "bridge", "works": true},
		{"check": "probes", "binding": "tc", "works": true},
		{"check": "probes", "binding": "masquerade", "works": true},
		{"check": "port-forward", "binding": "bridge", "works": false, "instead": "use a relay"},
		{"check": "port-forward", "binding": "tc", "works": false, "instead": "use a relay"},
		{"check": "port-forward", "binding": "masquerade", "works": true}]`
	someFigures = `{"cpus": 2, "kernel": "6.18", "rows": [
		{"name": "setup", "unit": "ms", "rounds": 15, "median": {"bridge": 10, "tc": 5.126, "masquerade": 15}},
		{"name": "lost", "unit": "packets", "rounds": 9, "median": {"bridge": 0, "tc": 0, "masquerade": 1}},
		{"name": "UDP", "unit": "packets/s", "rounds": 7, "median": {"bridge": 123456.7, "tc": 123456.7, "masquerade": 61728.35}}]}`
)

func made(t *testing.T, table, figures string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"table.json": table, "figures.json": figures, "picture-bridge.json": `"+-- bridge --+\n"`,
		"picture-tc.json": `"+-- tc --+\n"`, "picture-masquerade.json": `"+-- masquerade --+\n"`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	err := run(dir, &out)
	return out.String(), err
}

func TestPage(t *testing.T) {
	got, err := made(t, someTable, someFigures)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"|  | bridge | tc | masquerade |\n|---|---|---|---|\n| probes | yes | yes | yes |\n| port-forward | no (1) | no (1) | yes |\n\n1. use a relay\n",
		"2 processors and Linux 6.18;",
		"| setup, of 15 | 10 ms | 5.13 ms (0.51) | 15 ms (1.50) |\n",
		"| lost, of 9 | 0 packets | 0 packets | 1 packets |\n",
		"| UDP, of 7 | 123457 packets/s | 123457 packets/s (1.00) | 61728 packets/s (0.50) |\n",
		"### tc\n\n```\n+-- tc --+\n```\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "<%") || strings.Contains(got, "no value") {
		t.Error("something was left to be filled in")
	}
}

// TestPageIsOfAWholeRunThatPassed: a page says nothing of what was not seen.
func TestPageIsOfAWholeRunThatPassed(t *testing.T) {
	for name, test := range map[string]struct{ table, figures, want string }{
		"a check that failed":         {strings.Replace(someTable, `"works": true`, `"works": true, "error": "it broke"`, 1), someFigures, `"probes" failed with bridge`},
		"a binding that was not run":  {strings.Replace(someTable, `"binding": "tc"`, `"binding": "other"`, 1), someFigures, `"probes" was not tried with tc`},
		"a figure that was not taken": {someTable, strings.Replace(someFigures, `"tc": 5.126, `, "", 1), `"setup" was not measured with tc`},
		"no figures":                  {someTable, `{}`, "nothing measured"},
		"no table":                    {`[]`, someFigures, "nothing was tried"},
		"no JSON":                     {`[`, someFigures, "reading"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := made(t, test.table, test.figures); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
