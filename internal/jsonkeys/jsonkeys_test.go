package jsonkeys

import "testing"

func TestTwice(t *testing.T) {
	for text, want := range map[string]string{
		`{"a": 1, "a": 2}`:                     "a",
		`{"a": 1, "A": 2}`:                     "A",
		`{"": 1, "": 2}`:                       "",
		`[{"b": {}}, {"b": {"c": 1, "c": 1}}]`: "c",
		`{"a": "a", "b": ["a", "a", "b"]}`:     "-",
		`{"a": {"a": {"a": 1}}, "b": "a"}`:     "-",
		`[{"a": 1}, {"a": 1}]`:                 "-",
		`{"a": 1`:                              "-",
		`x`:                                    "-",
		``:                                     "-",
	} {
		got, twice := Twice([]byte(text))
		if twice != (want != "-") || twice && got != want {
			t.Errorf("%s: %q, %v, want %q", text, got, twice, want)
		}
	}
}
