package domxml

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever is put in: no panic; the result is a domain; a second run changes
// nothing; and where the input had no element for the tap, the result is the
// input with one piece of text put into it.
func FuzzPut(f *testing.F) {
	files, err := filepath.Glob("testdata/put/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), uint8(2), "", "", "")
		f.Add(string(text), uint8(1), "e1000e", "off", "0000:00:10.0")
	}
	f.Add("<domain/>", uint8(1), "virtio", "on", "0000:01:00.0")
	f.Add("<domain><devices/><devices a='>'/></domain>", uint8(1), "", "", "")
	f.Fuzz(func(t *testing.T, in string, queues uint8, model, vhost, address string) {
		i := pod("eth0", 7)
		i.Queues = int(queues)
		devices := []Device{{i, Card{Model: model, Vhost: vhost, PCIAddress: address}}}
		out, err := Put(in, devices)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of more than one line: %q", err)
			}
			return
		}
		root, err := parseDomain(out)
		if err != nil {
			t.Fatalf("the result is no domain: %v\n%s", err, out)
		}
		if n, err := find(root, i.Tap); err != nil || n == nil || n.attrs["type"] != "ethernet" {
			t.Fatalf("the result has no interface: %v\n%s", err, out)
		}
		if again, err := Put(out, devices); err != nil || again != out {
			t.Fatalf("a second run gives %v\n%s\nafter\n%s", err, again, out)
		}
		before, _ := parseDomain(in)
		if n, _ := find(before, i.Tap); n == nil {
			checkInserted(t, in, out)
		}
	})
}

// checkInserted checks that out is in with one insertion, or with one />
// replaced.
func checkInserted(t *testing.T, in, out string) {
	t.Helper()
	prefix := 0
	for prefix < len(in) && in[prefix] == out[prefix] {
		prefix++
	}
	suffix := 0
	for suffix < len(in)-prefix && in[len(in)-1-suffix] == out[len(out)-1-suffix] {
		suffix++
	}
	if lost := in[prefix : len(in)-suffix]; lost != "" && lost != "/" && lost != "/>" {
		t.Fatalf("%q got lost from\n%s\nwhich became\n%s", lost, in, out)
	}
}
