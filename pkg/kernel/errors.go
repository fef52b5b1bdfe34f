//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// lacking says which capability is missing and what grants it.
func lacking(capability string) string {
	return fmt.Sprintf("capability CAP_%s is missing; the container gets it with %s",
		capability, capabilityLine(capability))
}

// capabilityLine is the line of pod spec that grants a capability.
func capabilityLine(capability string) string {
	return fmt.Sprintf("securityContext: {capabilities: {add: [%q]}}", capability)
}

// deviceLine is the pod spec that grants a device, where no device plugin does.
func deviceLine(path string) string {
	return fmt.Sprintf("volumes: [{name: dev, hostPath: {path: %s, type: CharDevice}}]"+
		" with volumeMounts: [{name: dev, mountPath: %s}]", path, path)
}

// explain says what it takes where the kernel only says that it is not
// permitted. All that steps ask for is guarded by the one capability; the tap
// device explains itself.
func explain(err error) error {
	var told *deviceError
	if errors.Is(err, unix.EPERM) && !errors.As(err, &told) {
		return fmt.Errorf("%w: %s", err, lacking("NET_ADMIN"))
	}
	return err
}

// gone says that a link is not there, as the kernel and the standard library say
// it.
func gone(link string) error {
	return fmt.Errorf("link %q: %w", link, errLinkGone)
}

// errLinkGone is ENODEV that fs.ErrNotExist recognises: the errno alone is not
// taken for it.
var errLinkGone error = linkGone{}

type linkGone struct{}

func (linkGone) Error() string { return "no such link" }

func (linkGone) Unwrap() error { return unix.ENODEV }

func (linkGone) Is(target error) bool { return target == fs.ErrNotExist }

// isErrno reports whether err is one of the errnos.
func isErrno(err error, errnos ...unix.Errno) bool {
	for _, errno := range errnos {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// unless returns err where it is none of the errnos, which say that there is
// nothing to do.
func unless(err error, errnos ...unix.Errno) error {
	if isErrno(err, errnos...) {
		return nil
	}
	return err
}
