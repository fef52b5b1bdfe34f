package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestSpecificationIsFoundAmongTheFlags(t *testing.T) {
	tests := map[string]struct {
		args      string
		file      string
		isProcess bool
	}{
		"create with a bundle":         {"--root /r --log /l create --bundle /b --pid-file /p id", "/b/config.json", false},
		"run with a short flag":        {"run -b /b id", "/b/config.json", false},
		"joined by =":                  {"create --bundle=/b id", "/b/config.json", false},
		"create in the current folder": {"create id", "config.json", false},
		"exec with a process":          {"--root=/r exec --process /tmp/p --detach id", "/tmp/p", true},
		"exec without one":             {"exec id true", "", true},
		"a flag's value is no command": {"--root run state id", "", false},
		"a command of no concern":      {"--root /r delete --force id", "", false},
		"nothing":                      {"", "", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file, isProcess := specification(strings.Fields(test.args))
			if file != test.file || isProcess != test.isProcess {
				t.Errorf("specification(%q) = %q, %v; want %q, %v", test.args, file, isProcess, test.file, test.isProcess)
			}
		})
	}
}

var withheld = limits{withheld: []string{"CAP_SYS_RESOURCE"}, lowest: true, oomScore: 0}

func TestAdaptTakesOutOnlyWhatIsWithheld(t *testing.T) {
	const process = `{"args": ["sh"], "oomScoreAdj": -999, "big": 18446744073709551615,
		"capabilities": {"bounding": ["CAP_SYS_RESOURCE", "CAP_KILL"], "ambient": ["CAP_SYS_RESOURCE"], "permitted": ["CAP_KILL"]}}`
	const want = `{"args": ["sh"], "oomScoreAdj": 0, "big": 18446744073709551615,
		"capabilities": {"bounding": ["CAP_KILL"], "ambient": [], "permitted": ["CAP_KILL"]}}`
	tests := map[string]struct {
		before, after string
		isProcess     bool
		limits        limits
	}{
		"a process":               {process, want, true, withheld},
		"a container":             {`{"process": ` + process + `}`, `{"process": ` + want + `}`, false, withheld},
		"a machine without limit": {process, process, true, limits{}},
		"a higher score may stay": {`{"oomScoreAdj": 500}`, `{"oomScoreAdj": 500}`, true, withheld},
		"no process at all":       {`{"root": {}}`, `{"root": {}}`, false, withheld},
		"another capability is withheld": {
			`{"oomScoreAdj": -5, "capabilities": {"bounding": ["CAP_BPF"]}}`,
			`{"oomScoreAdj": -5, "capabilities": {"bounding": []}}`, true,
			limits{withheld: []string{"CAP_BPF"}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "spec.json")
			if err := os.WriteFile(file, []byte(test.before), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := adapt(file, test.isProcess, test.limits); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := decoded(t, string(content)), decoded(t, test.after); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if strings.Contains(test.before, "18446744073709551615") && !strings.Contains(string(content), "18446744073709551615") {
				t.Errorf("a large number was rounded: %s", content)
			}
		})
	}
}

func TestAdaptRefusesWhatItCannotRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "spec.json")
	if err := adapt(file, true, withheld); err == nil {
		t.Error("no error for a file that is not there")
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := adapt(file, true, withheld); err == nil {
		t.Error("no error for half a file")
	}
}

func TestCapabilitiesAreNumberedAsTheKernelDoes(t *testing.T) {
	for name, number := range map[string]int{"CHOWN": 0, "NET_ADMIN": 12, "SYS_RESOURCE": 24, "SYSLOG": 34, "CHECKPOINT_RESTORE": 40} {
		if capabilities[number] != name {
			t.Errorf("number %d is %q, want %q", number, capabilities[number], name)
		}
	}
}

func decoded(t *testing.T, s string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatal(err)
	}
	return v
}
