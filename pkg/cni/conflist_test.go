package cni

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const flannel = `{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "flannel",
      "delegate": { "hairpinMode": true,   "isDefaultGateway": true }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
`

const kindnet = "{\n\t\"cniVersion\": \"0.3.1\",\n\t\"name\": \"kindnet\",\n\t\"plugins\": [\n\t{\n\t\t\"type\": \"ptp\",\n\t\t\"ipam\": {\"type\": \"host-local\"}\n\t}\n\t]\n}\n"

const oneLine = `{"cniVersion":"1.0.0","name":"p","plugins":[{"type":"ptp","big":12345678901234567890.10}]}`

func TestEntryIsPutAtTheEnd(t *testing.T) {
	e := NewEntry()
	tests := []struct{ name, text, want string }{
		{"flannel", flannel, strings.Replace(flannel, "      }\n    }\n  ]", `      }
    },
    {
      "type": "podwire",
      "capabilities": {
        "io.kubernetes.cri.pod-annotations": true
      }
    }
  ]`, 1)},
		{"tabs", kindnet, strings.Replace(kindnet, "}\n\t}\n\t]", "}\n\t},\n\t{\n\t\t\"type\": \"podwire\",\n\t\t\"capabilities\": {\n\t\t\t\"io.kubernetes.cri.pod-annotations\": true\n\t\t}\n\t}\n\t]", 1)},
		{"one line", oneLine, strings.Replace(oneLine, `}]}`, `}, {"type":"podwire","capabilities":{"io.kubernetes.cri.pod-annotations":true}}]}`, 1)},
	}
	for _, tt := range tests {
		got := mustAdd(t, tt.text, e)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if again := mustAdd(t, got, e); again != got {
			t.Errorf("%s: a second time changes it:\n%s", tt.name, again)
		}
		if back := mustRemove(t, got); back != tt.text {
			t.Errorf("%s: taken out (-want +got):\n%s", tt.name, cmp.Diff(tt.text, back))
		}
	}
}

func TestEntryIsReplacedWhereItDiffers(t *testing.T) {
	e := NewEntry()
	e.Wire, e.Settings = WireAll, map[string]any{"dns": []string{"10.0.0.1"}}
	for _, text := range []string{flannel, kindnet, oneLine} {
		other := mustAdd(t, mustAdd(t, text, NewEntry()), e)
		if diff := cmp.Diff(mustAdd(t, text, e), other); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if back := mustRemove(t, other); back != text {
			t.Errorf("taken out:\n%s", back)
		}
	}
	// What is only written in another way is left.
	spaced := strings.Replace(oneLine, `}]}`, `},  { "capabilities": {"io.kubernetes.cri.pod-annotations" :true}, "type": "podwire" }]}`, 1)
	if got := mustAdd(t, spaced, NewEntry()); got != spaced {
		t.Errorf("changed to %s", got)
	}
}

func TestEntryIsTakenOutWhereverItIs(t *testing.T) {
	const text = `{"cniVersion":"1.0.0","name":"p","plugins":[{"type":"a"}, {"type":"podwire"},
  {"type":"b"}]}`
	want := `{"cniVersion":"1.0.0","name":"p","plugins":[{"type":"a"},
  {"type":"b"}]}`
	if got := mustRemove(t, text); got != want {
		t.Errorf("got %s", got)
	}
	if got := mustRemove(t, `{"plugins":[{"type":"podwire"}, {"type":"b"}]}`); got != `{"plugins":[{"type":"b"}]}` {
		t.Errorf("got %s", got)
	}
	if got := mustRemove(t, flannel); got != flannel {
		t.Errorf("got %s", got)
	}
}

// TestCheckIsDisabledAndEnabled: what came with the entry goes with it, and nothing
// else does.
func TestCheckIsDisabledAndEnabled(t *testing.T) {
	e := NewEntry()
	e.DisabledCheck = true
	for _, text := range []string{flannel, kindnet, oneLine} {
		got := mustAdd(t, text, e)
		var l struct{ DisableCheck bool }
		if err := json.Unmarshal([]byte(got), &l); err != nil || !l.DisableCheck {
			t.Errorf("not disabled, %v:\n%s", err, got)
		}
		if again := mustAdd(t, got, e); again != got {
			t.Errorf("a second time changes it:\n%s", again)
		}
		if back := mustRemove(t, got); back != text {
			t.Errorf("taken out (-want +got):\n%s", cmp.Diff(text, back))
		}
		if without := mustAdd(t, got, NewEntry()); without != mustAdd(t, text, NewEntry()) {
			t.Errorf("no longer asked for:\n%s", without)
		}
	}
	theirs := strings.Replace(flannel, `"cniVersion"`, `"disableCheck": true, "cniVersion"`, 1)
	if back := mustRemove(t, mustAdd(t, theirs, e)); back != theirs {
		t.Errorf("somebody else's was taken out:\n%s", back)
	}
	after := strings.Replace(oneLine, "}]}", `}],"disableCheck":false}`, 1)
	if back := mustRemove(t, mustAdd(t, after, e)); back != after {
		t.Errorf("somebody else's was taken out:\n%s", back)
	}
}

func TestWhatCannotBeALastPlace(t *testing.T) {
	for text, says := range map[string]string{
		``:                               "not JSON",
		`[]`:                             "not JSON",
		`{"plugins": [{"type": "a"}`:     "not JSON",
		`{"plugins": [{"type": "a"}]} x`: "not JSON",
		`{"plugins": {}}`:                "not JSON",
		`{"plugins": ["a"]}`:             "not JSON",
		`{"cniVersion": "1.0.0"}`:        "it lists no plugins",
		`{"plugins": [{"type": "a"}]}`:   `its cniVersion is ""; podwire speaks 0.3.1, 0.4.0, 1.0.0, 1.1.0`,
		`{"cniVersion": "0.2.0", "plugins": [{"type": "a"}]}`:       `its cniVersion is "0.2.0"`,
		`{"cniVersion": "1.0.0", "plugins": [{"type": "podwire"}]}`: "podwire comes first",
	} {
		_, err := Add([]byte(text), NewEntry())
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
		if errors.Is(err, ErrNotJSON) != (says == "not JSON") {
			t.Errorf("%s: %v is half-written: %v", text, err, errors.Is(err, ErrNotJSON))
		}
	}
	if _, err := Remove([]byte(`{"plugins": [{"type": "podwire"}]}`)); err == nil {
		t.Error("a list is left that lists nothing")
	}
}

func TestListOfALonePlugin(t *testing.T) {
	const conf = "{\n  \"cniVersion\": \"0.3.1\",\n  \"name\": \"mynet\",\n  \"type\": \"bridge\"\n}\n"
	list, err := FromConf([]byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "cniVersion": "0.3.1",
  "name": "mynet",
  "plugins": [
    {
      "cniVersion": "0.3.1",
      "name": "mynet",
      "type": "bridge"
    },
    {
      "type": "podwire",
      "capabilities": {
        "io.kubernetes.cri.pod-annotations": true
      }
    }
  ]
}
`
	if diff := cmp.Diff(want, mustAdd(t, string(list), NewEntry())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, text := range []string{`{"type": "bridge"}`, flannel, `{`, `{"name": "x", "type": "bridge"}`} {
		if _, err := FromConf([]byte(text)); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

func TestEntryIsValidated(t *testing.T) {
	e := NewEntry()
	e.DisabledCheck, e.KubeletDir, e.Log = true, "/k", "/l"
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	e.Wire = "some"
	if err := e.Validate(); err == nil {
		t.Error("wire: some is valid")
	}
}

func mustAdd(t *testing.T, text string, e Entry) string {
	t.Helper()
	out, err := Add([]byte(text), e)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func mustRemove(t *testing.T, text string) string {
	t.Helper()
	out, err := Remove([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// FuzzAdd: what comes out is JSON, and is the same again when the entry is taken
// out, unless one was in it.
func FuzzAdd(f *testing.F) {
	for _, text := range []string{flannel, kindnet, oneLine, `{"cniVersion":"1.0.0","plugins":[{}],"plugins":[{}]}`} {
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, text string, disable bool) {
		e := NewEntry()
		e.DisabledCheck = disable
		out, err := Add([]byte(text), e)
		if err != nil {
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q became %q", text, out)
		}
		if again, err := Add(out, e); err != nil || string(again) != string(out) {
			t.Fatalf("%q became %q, then %q, %v", text, out, again, err)
		}
		if l, err := scan([]byte(text)); err != nil || l.ours() >= 0 {
			return
		}
		if back, err := Remove(out); err != nil || string(back) != text {
			t.Fatalf("%q became %q and went back to %q, %v", text, out, back, err)
		}
	})
}
