package guest

import (
	"context"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/pod"
)

// consoleAt is where a guest's console is listened to in its pod.
const consoleAt = "/run/test/console"

// InPod prepares a pod for libvirt and returns the domain of the guest that is to run
// in it, and the console that it will speak on. trying is called before KVM is tried,
// which takes a while.
func InPod(ctx context.Context, dir checkout.Dir, vm *pod.Pod, trying func(), ask ...string) (xml string, console *Console, err error) {
	image, err := Build(dir)
	if err != nil {
		return "", nil, err
	}
	accel, err := Accel(ctx, dir, image, trying)
	if err != nil {
		return "", nil, err
	}
	if err := vm.PrepareLibvirt(); err != nil {
		return "", nil, err
	}
	listener, err := vm.Listen(consoleAt)
	if err != nil {
		return "", nil, err
	}
	xml, err = Domain{Name: "vm-0", Image: image, Accel: accel, Console: consoleAt, Ask: ask}.XML()
	return xml, Listen(listener), err
}
