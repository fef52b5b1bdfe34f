package picture

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestDraw draws what kernels said: tests/bindings writes that, with -update.
func TestDraw(t *testing.T) {
	for _, binding := range []string{"bridge", "tc", "masquerade"} {
		t.Run(binding, func(t *testing.T) {
			got, err := Draw(said(t, binding))
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", binding+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("the picture (-want +got):\n%s", diff)
			}
			for line := range strings.Lines(got) {
				if len(line) > Columns+1 {
					t.Errorf("wider than %d columns: %s", Columns, line)
				}
			}
		})
	}
}

func said(t *testing.T, binding string) Kernel {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", binding+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var k Kernel
	if err := json.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	return k
}

// TestWhatIsGoneIsNotDrawn: a picture is of what the kernel holds.
func TestWhatIsGoneIsNotDrawn(t *testing.T) {
	k := said(t, "tc")
	k.Filters["eth0"] = json.RawMessage("[]")
	got, err := Draw(k)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(got, "redirect egress to tap-eth0") || !strings.Contains(got, "redirect egress to eth0") {
		t.Errorf("without the filters of eth0:\n%s", got)
	}
	k = said(t, "masquerade")
	k.Tables = json.RawMessage(`{"nftables": []}`)
	if got, err = Draw(k); err != nil || strings.Contains(got, "dnat") {
		t.Errorf("without tables: %v\n%s", err, got)
	}
}

func TestPodThatIsNotWiredIsNoPicture(t *testing.T) {
	for name, test := range map[string]struct{ pod, want string }{
		"nothing":  {"[]", "leads out"},
		"no tap":   {`[{"ifname":"eth0","link_index":3}]`, "no tap"},
		"no JSON":  {`{`, "reading the pod's links"},
		"no links": {`{"ifname":1}`, "reading the pod's links"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Draw(Kernel{Pod: json.RawMessage(test.pod)}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestRuleIsInTheWordsOfNft(t *testing.T) {
	for expr, want := range map[string]string{
		`[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":{"range":[8000,8010]}}},{"return":null}]`:                                           "tcp dport 8000-8010 return",
		`[{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":{"set":[53,{"range":[60,61]}]}}},{"dnat":{"family":"ip","addr":"10.0.2.2"}}]`:       "udp dport { 53, 60-61 } dnat ip to 10.0.2.2",
		`[{"match":{"op":"!=","left":{"&":[{"payload":{"protocol":"tcp","field":"flags"}},["fin","syn"]]},"right":"syn"}},{"counter":{"packets":1,"bytes":2}},{"accept":null}]`: "tcp flags & (fin | syn) != syn counter accept",
	} {
		var r rule
		if err := json.Unmarshal([]byte(expr), &r.Expr); err != nil {
			t.Fatal(err)
		}
		if got := r.text(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestLongLineIsBrokenBetweenWords(t *testing.T) {
	want := []string{"+-- t ----------------+", "| one two three four  |", "|         five        |", "+---------------------+"}
	if diff := cmp.Diff(want, box("t", []string{"one two three four five"}, 23)); diff != "" {
		t.Error(diff)
	}
}
