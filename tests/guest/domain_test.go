package guest

import (
	"encoding/xml"
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
		if got.Type != want || got.Kernel != kernel || got.Serial.Source.Path != "/run/it's" {
			t.Errorf("got %+v", got)
		}
	}
}
