package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	cells = `[
		{"layout": "bridge", "family": "IPv4", "result": "ok", "client": "systemd-networkd", "libvirt": true},
		{"layout": "bridge", "family": "dual", "result": "ok"},
		{"layout": "macvlan", "family": "IPv4", "result": "refused", "reason": "it is a macvlan\nand more"},
		{"layout": "macvlan", "family": "IPv6", "result": "refused", "reason": "it is a macvlan"}]`
	rows = `[{"client": "udhcpc6", "version": "1.35", "family": "IPv6", "columns": {"address": "ok", "prefix": "-"}, "cannot": {"prefix": "by RA"}}]`
)

func page(t *testing.T, cells, rows string) (string, error) {
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
	got, err := page(t, cells, rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| bridge | ok, VM |   | ok |\n",
		"| macvlan | refused (1) | refused (1) |   |\n\n1. it is a macvlan\n",
		"| udhcpc6 1.35 | IPv6 | ok | - (1) |",
		"\n1. by RA\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestAFailedRunMakesNoPage(t *testing.T) {
	if out, err := page(t, strings.Replace(cells, "refused", "FAILED", 1), rows); err == nil || out != "" {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := page(t, "x", rows); err == nil {
		t.Error("nonsense was taken")
	}
}
