package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/podwire/podwire/pkg/cni"
)

// openVolume opens the pod's volume for its state, on the node. Nothing below the
// kubelet's directory is followed out of it, and the volume itself must not be a
// link: what is in it is the pod's.
func openVolume(kubeletDir string, pod cni.Pod) (*os.Root, error) {
	kubelet, err := os.OpenRoot(kubeletDir)
	if err != nil {
		return nil, cni.Fail(cni.CodePod, fmt.Sprintf("opening the kubelet's directory: %v; name it by kubeletDir in podwire's network configuration", err), "")
	}
	defer func() { _ = kubelet.Close() }()
	info, err := kubelet.Lstat(pod.StateVolume())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cni.NoVolume()
	}
	if err == nil && !info.IsDir() {
		err = errors.New("not a directory")
	}
	var volume *os.Root
	if err == nil {
		volume, err = kubelet.OpenRoot(pod.StateVolume())
	}
	if err != nil {
		return nil, cni.Fail(cni.CodePod, fmt.Sprintf("opening the pod's volume %q: %v", cni.Volume, err), "")
	}
	return volume, nil
}

// publish copies the state file at from into the volume: whole, under a name that
// nobody else can have made, then renamed over whatever is there. Its group is that
// of the volume, which is the pod's fsGroup. Nothing is ever read from there.
func publish(volume *os.Root, from, name string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("publishing the state: %w", err)
	}
	temporary := "." + name + "." + rand.Text()
	err = writePublished(volume, temporary, text)
	if err == nil {
		err = volume.Rename(temporary, name)
	}
	if err != nil {
		_ = volume.Remove(temporary) // the first error says more
		return cni.Fail(cni.CodePod, fmt.Sprintf("writing the state into the pod's volume %q: %v", cni.Volume, err), "")
	}
	return nil
}

func writePublished(volume *os.Root, name string, text []byte) error {
	info, err := volume.Stat(".")
	if err != nil {
		return err
	}
	f, err := volume.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if st, ok := info.Sys().(*syscall.Stat_t); ok && err == nil {
		err = f.Chown(-1, int(st.Gid))
	}
	if err == nil {
		err = f.Chmod(0o640)
	}
	return errors.Join(err, f.Close())
}
