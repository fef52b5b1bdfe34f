package guest

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/podwire/podwire/tests/checkout"
)

// TestImageHoldsWhatInitNeeds reads the image back with busybox's own cpio, as a
// witness that it is an archive.
func TestImageHoldsWhatInitNeeds(t *testing.T) {
	dir, err := checkout.Find()
	if err != nil {
		t.Fatal(err)
	}
	archive, err := initrd(dir)
	if err != nil {
		t.Fatal(err)
	}
	busybox, err := dir.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command(busybox, "cpio", "-t")
	list.Stdin = bytes.NewReader(archive)
	out, err := list.Output()
	if err != nil {
		t.Fatalf("busybox cpio -t: %v", err)
	}
	for _, want := range []string{"init", "bin/busybox", "bin/sh", "bin/udhcpc", "bin/dhcp", "bin/leased", "bin/udhcpc6", "bin/dhcp6", "bin/leased6", "modules/order"} {
		if !strings.Contains("\n"+string(out), "\n"+want+"\n") {
			t.Errorf("image lacks %q", want)
		}
	}
}
