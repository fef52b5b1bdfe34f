//go:build linux

package kernel

import (
	"slices"
	"strings"
	"testing"
)

func TestDoctorTriesRedirects(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	findings := p.k.Doctor(t.Context())
	i := slices.IndexFunc(findings, func(f Finding) bool { return strings.Contains(f.Name, "tc redirect") })
	if i < 0 || findings[i].Status != StatusOK {
		t.Errorf("findings are %+v", findings)
	}
}

func TestDoctorNeedsOneKindOfFilter(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ tc, nft, want Status }{
		"both":    {StatusOK, StatusOK, StatusOK},
		"one":     {StatusWarn, StatusOK, StatusWarn},
		"another": {StatusOK, StatusWarn, StatusOK},
		"none":    {StatusWarn, StatusWarn, StatusFail},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			findings := []Finding{{Name: "tc", Status: c.tc}, {Name: "another", Status: StatusWarn}, {Name: "nft", Status: c.nft}}
			oneOf(findings, "tc", "nft")
			if findings[0].Status != c.want || findings[1].Status != StatusWarn {
				t.Errorf("got %+v", findings)
			}
		})
	}
}
