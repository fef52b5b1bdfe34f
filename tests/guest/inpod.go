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
	return InPodAs(ctx, dir, vm, trying, Domain{Ask: ask})
}

// InPodAs is InPod for a guest that is more than asked: of it only the name, the image,
// the accelerator and the console are chosen here.
func InPodAs(ctx context.Context, dir checkout.Dir, vm *pod.Pod, trying func(), d Domain) (xml string, console *Console, err error) {
	if d.Image, err = Build(dir); err != nil {
		return "", nil, err
	}
	if d.Accel, err = Accel(ctx, dir, d.Image, trying); err != nil {
		return "", nil, err
	}
	if err := vm.PrepareLibvirt(); err != nil {
		return "", nil, err
	}
	listener, err := vm.Listen(consoleAt)
	if err != nil {
		return "", nil, err
	}
	d.Name, d.Console = "vm-0", consoleAt
	xml, err = d.XML()
	return xml, Listen(listener), err
}
