package page

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBlocksAreThoseThatAreMarked(t *testing.T) {
	text := "# Page\n\n```sh\nnot this\n```\n\n```sh test=start\none \\\n  two\n```\ntext\n" +
		"````sh test=start\n```\nthree\n````\n```console test=start\nnot this\n```\n```sh test=other\nnot this\n```\n"
	got, err := Blocks(text, "start")
	if err != nil {
		t.Fatal(err)
	}
	want := []Block{{Line: 8, Commands: "one \\\n  two\n"}, {Line: 13, Commands: "```\nthree\n"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Blocks (-want +got):\n%s", diff)
	}
}

func TestBlocksRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"a page that marks none":       "```sh\na\n```\n",
		"a page that marks another's":  "```sh test=starting\na\n```\n",
		"a block that is never closed": "```sh test=start\na\n",
	} {
		if got, err := Blocks(text, "start"); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
