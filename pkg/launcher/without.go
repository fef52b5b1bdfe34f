//go:build !cgo || !libvirt_dlopen

package launcher

import "fmt"

// dial is that of a program built without libvirt.
func dial(string) (hypervisor, error) {
	return nil, fmt.Errorf("%w: this program was built without cgo and the tag libvirt_dlopen", errNoLibrary)
}
