package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	cells = `[
		{"layout": "bridge", "family": "IPv4", "binding": "bridge", "result": "ok", "client": "systemd-networkd", "libvirt": true},
		{"layout": "bridge", "family": "dual", "binding": "bridge", "result": "ok"},
		{"layout": "bridge", "family": "IPv4", "binding": "tc", "result": "ok"},
		{"layout": "bridge", "family": "dual", "binding": "tc", "result": "ok"},
		{"layout": "bridge", "family": "IPv4", "binding": "masquerade", "result": "ok"},
		{"layout": "bridge", "family": "dual", "binding": "masquerade", "result": "ok", "libvirt": true},
		{"layout": "macvlan", "family": "IPv4", "binding": "bridge", "result": "refused", "reason": "it is a macvlan\nand more"},
		{"layout": "macvlan", "family": "IPv6", "binding": "bridge", "result": "refused", "reason": "it is a macvlan"},
		{"layout": "macvlan", "family": "dual", "binding": "bridge", "result": "-", "reason": "no such pods"},
		{"layout": "macvlan", "family": "IPv4", "binding": "tc", "result": "ok"},
		{"layout": "macvlan", "family": "dual", "binding": "tc", "result": "-", "reason": "no such pods"},
		{"layout": "macvlan", "family": "dual", "binding": "masquerade", "result": "-", "reason": "no macvlan"}]`
	rows = `[
		{"client": "udhcpc6", "version": "1.35", "family": "IPv6", "binding": "bridge", "columns": {"address": "ok", "prefix": "-"}, "cannot": {"prefix": "by RA"}},
		{"client": "udhcpc6", "version": "1.35", "family": "IPv6", "binding": "masquerade", "columns": {"address": "ok", "prefix": "-"}, "cannot": {"prefix": "by RA"}}]`
)

func made(t *testing.T, cells, rows string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"cni.json": cells, "clients.json": rows} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	err := run(dir, &out)
	return out.String(), err
}

func TestPage(t *testing.T) {
	got, err := made(t, cells, rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| pod network | IPv4 | IPv6 | dual | tc | masquerade |\n|---|---|---|---|---|---|\n",
		"| bridge | ok, VM |   | ok | ok | ok, VM |\n",
		"| macvlan | refused (1) | refused (1) | - (2) | ok | - (3) |\n\n1. it is a macvlan\n2. no such pods\n3. no macvlan\n",
		"| udhcpc6 1.35 | IPv6 | ok | - (1) |",
		" | bridge, masquerade |\n",
		"\n1. by RA\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "| udhcpc6"); n != 1 {
		t.Errorf("%d rows of one client", n)
	}
}

func TestAFailedRunMakesNoPage(t *testing.T) {
	for name, in := range map[string][2]string{
		"a network failed":         {strings.Replace(cells, "refused", "FAILED", 1), rows},
		"a client failed":          {cells, strings.Replace(rows, `"ok"`, `"FAILED"`, 1)},
		"a client of two opinions": {cells, strings.Replace(rows, `"ok"`, `"-"`, 1)},
		"nonsense":                 {cells, "x"},
	} {
		if out, err := made(t, in[0], in[1]); err == nil || out != "" {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
