package report

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTableShowsWhatWasNotedAndWhatWasNot(t *testing.T) {
	table := New([]string{"split", "hook"}, []string{"ready", "policy"})
	table.Note("hook", "ready", true, 11600*time.Millisecond)
	table.Note("split", "ready", false, 180*time.Second)
	table.Mark("hook", "policy", "not enforced")
	table.Mark("split", "policy", "not enforced")
	table.Note("hook", "policy", true, time.Second)
	table.Note("split", "policy", false, time.Second)
	table.Note("hook", "delete", true, 0)
	table.Say("policies are not enforced")
	table.Say("policies are not enforced")
	want := "ptp\n" +
		"        split        hook\n" +
		"ready   FAILED 180s  ok 12s\n" +
		"policy  FAILED 1s    not enforced\n" +
		"delete  -            ok 0s\n" +
		"policies are not enforced\n"
	if diff := cmp.Diff(want, table.Text("ptp")); diff != "" {
		t.Errorf("Text (-want +got):\n%s", diff)
	}
}
