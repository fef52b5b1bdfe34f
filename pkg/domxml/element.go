package domxml

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/podwire/podwire/pkg/plan"
	"libvirt.org/go/libvirtxml"
)

// Element returns the libvirt <interface> element for a wired interface, in
// lines that are indented by two spaces a level, without a newline at the end.
//
// The tap is podwire's, or the pod's macvtap: managed='no' keeps libvirt (since
// 5.7.0) from making, configuring and deleting it. The option ROM is off, because a
// guest that does not boot from the network need not wait for it; Put leaves it
// alone in a domain that does.
func Element(i plan.Interface, c Card) (string, error) {
	text, err := Device{i, c}.element()
	if err != nil {
		return "", fmt.Errorf("describing interface %q for libvirt: %w", i.PodInterface, err)
	}
	return text, nil
}

func (d Device) element() (string, error) {
	if err := validate(d.Interface); err != nil {
		return "", err
	}
	if err := d.validate(d.model(), d.Queues); err != nil {
		return "", err
	}
	card, err := d.device()
	if err != nil {
		return "", err
	}
	return marshal(card)
}

func validate(i plan.Interface) error {
	switch {
	case i.Tap == "":
		return errors.New("it has no tap")
	case !i.MAC.IsUnicast():
		return fmt.Errorf("%q is no MAC address for a guest", i.MAC)
	case i.MTU < 0:
		return fmt.Errorf("MTU %d", i.MTU)
	case i.Queues < 0:
		return fmt.Errorf("%d queues", i.Queues)
	}
	return nil
}

// aliasChars is what libvirt takes in the alias of a user, after the prefix
// ua- that it demands.
const aliasChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// alias names the device in libvirt's own messages. Where the interface's name
// has characters that libvirt refuses, a digest keeps eth0.1 apart from eth0_1.
func alias(podInterface string) string {
	clean := strings.Map(func(r rune) rune {
		if strings.ContainsRune(aliasChars, r) {
			return r
		}
		return '_'
	}, podInterface)
	if clean != podInterface {
		sum := sha256.Sum256([]byte(podInterface))
		clean += "-" + hex.EncodeToString(sum[:4])
	}
	return "ua-" + clean
}

var emptyElement = regexp.MustCompile(`></[a-zA-Z]+>`)

func marshal(card *libvirtxml.DomainInterface) (string, error) {
	text, err := card.Marshal()
	return libvirtStyle(text), err
}

// libvirtStyle writes XML of encoding/xml the way libvirt does: empty elements
// closed in their tag, attributes in single quotes. Both replacements are safe,
// because the encoder never leaves a bare > or quote in a value.
func libvirtStyle(text string) string {
	return strings.ReplaceAll(emptyElement.ReplaceAllString(text, "/>"), `"`, "'")
}
