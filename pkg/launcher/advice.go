package launcher

import (
	"fmt"
	"net"
	"strings"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/domxml"
)

// advice is what to do about an error that libvirt's words do not explain.
func advice(err error, devices []domxml.Device) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "virtlogd"):
		// By default libvirt has QEMU's output logged by a second daemon, which a
		// container has no init to start.
		return ` (run virtlogd, too, or put stdio_handler = "file" into /etc/libvirt/qemu.conf)`
	case strings.Contains(text, "vhost-net was requested"):
		return " (the container needs /dev/vhost-net, of a kernel with the module vhost_net; or leave vhost to the hypervisor: --vhost off)"
	}
	for _, d := range devices {
		// libvirt 9.0 knows a macvtap by its device, and takes one without for a tap.
		if d.Binding == config.Macvtap && strings.Contains(text, "tap device "+d.Tap+":") {
			return fmt.Sprintf(" (%s is a macvtap, and the container needs its device, %s: it is there for the container that asks for the resource of the device plugin which made the macvtap)",
				d.Tap, tapDevice(d.Tap))
		}
	}
	return ""
}

// tapDevice is the file by which a macvtap is opened.
func tapDevice(name string) string {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return "/dev/tap and the link's index"
	}
	return fmt.Sprintf("/dev/tap%d", link.Index)
}
