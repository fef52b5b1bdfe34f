package guest

import (
	"encoding/xml"
	"strings"
	"testing"
)

func TestDomainIsXMLWhateverThePaths(t *testing.T) {
	const kernel = `/srv/<it's> & "more"/vmlinuz`
	for _, accel := range []string{"kvm", "tcg"} {
		text, err := Domain{Name: "vm-0", Image: Image{Kernel: kernel}, Accel: accel, Console: "/run/it's"}.XML()
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Type   string `xml:"type,attr"`
			VCPUs  int    `xml:"vcpu"`
			Kernel string `xml:"os>kernel"`
			Serial struct {
				Source struct {
					Path string `xml:"path,attr"`
				} `xml:"source"`
			} `xml:"devices>serial"`
		}
		if err := xml.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		want := map[string]string{"kvm": "kvm", "tcg": "qemu"}[accel]
		if got.Type != want || got.Kernel != kernel || got.Serial.Source.Path != "/run/it's" || got.VCPUs != 1 {
			t.Errorf("got %+v", got)
		}
	}
}

func TestDomainHasTheCPUsThatAreAskedFor(t *testing.T) {
	for asked, want := range map[int]string{0: "<vcpu>1</vcpu>", 4: "<vcpu>4</vcpu>"} {
		text, err := Domain{Name: "vm-0", Accel: "tcg", VCPUs: asked}.XML()
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("%d CPUs: %v, no %s in\n%s", asked, err, want, text)
		}
	}
}
