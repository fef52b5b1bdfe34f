package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFigures(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "killed.txt"), []byte("setup, bridge\t61\nsetup, tc\t50\nserve\t9\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.figure("killed", "serve"); got != "9" || err != nil {
		t.Errorf("a figure: %q, %v", got, err)
	}
	want := "| | |\n|---|---|\n| bridge | 61 |\n| tc | 50 |\n"
	if got, err := f.table("killed", "setup, "); got != want || err != nil {
		t.Errorf("a table: %q, %v, want %q", got, err, want)
	}
	// A page says nothing of what was not measured.
	if _, err := f.figure("killed", "status"); err == nil || !strings.Contains(err.Error(), `noted no "status"`) {
		t.Errorf("a figure that nobody noted: %v", err)
	}
	if _, err := f.table("failing", ""); err == nil || !strings.Contains(err.Error(), "noted nothing") {
		t.Errorf("the table of a topic without figures: %v", err)
	}
}

func TestWhatIsNoFigureIsRefused(t *testing.T) {
	for name, text := range map[string]string{"no value": "setup\n", "an empty one": "setup\t\n", "no name": "\t1\n"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "killed.txt"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := read(dir); err == nil || !strings.Contains(err.Error(), "is no figure") {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := read(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no figures in") {
		t.Errorf("an empty directory: %v", err)
	}
}
