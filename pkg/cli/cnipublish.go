package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
		return nil, cni.ErrNoVolume
	}
	if target, ok := leadsAway(kubelet); ok && err != nil {
		return nil, cni.Fail(cni.CodePod, linkedPods(kubeletDir, target), "")
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

func closeVolume(volume *os.Root) {
	if volume != nil {
		_ = volume.Close()
	}
}

// leadsAway returns where the directory of the pods is in truth, if it is a link to
// a place outside the kubelet's directory.
func leadsAway(kubelet *os.Root) (target string, ok bool) {
	if _, err := kubelet.Stat("pods"); err == nil {
		return "", false
	}
	target, err := kubelet.Readlink("pods")
	return target, err == nil
}

// linkedPods says what to do about a link that is not followed: the node's owner can
// name the place, and then nothing leads out of it.
func linkedPods(kubeletDir, target string) string {
	pods := filepath.Join(kubeletDir, "pods")
	if resolved, err := filepath.EvalSymlinks(pods); err == nil {
		target = resolved
	}
	problem := fmt.Sprintf("%s is a link to %s, out of the kubelet's directory, where podwire does not follow it", pods, target)
	if filepath.Base(target) != "pods" {
		return problem + ": mount that directory there instead of linking it"
	}
	return fmt.Sprintf("%s: give \"kubeletDir\": %q in podwire's network configuration (podwire cni install --kubelet-dir)", problem, filepath.Dir(target))
}

// publish copies the state file into the volume, if there is one: whole, under a name
// that no other container has, then renamed over whatever is there. Its group is that
// of the volume, which is the pod's fsGroup. Nothing is ever read from there.
func (t attachment) publish(volume *os.Root) error {
	if volume == nil {
		return nil
	}
	text, err := os.ReadFile(t.dir.Path(t.nic))
	if err != nil {
		return fmt.Errorf("publishing the state: %w", err)
	}
	temporary := t.temporary()
	_ = volume.Remove(temporary) // of an ADD that was killed
	err = writePublished(volume, temporary, text)
	if err == nil {
		err = volume.Rename(temporary, t.nic+".json")
	}
	if err != nil {
		_ = volume.Remove(temporary) // the first error says more
		return cni.Fail(cni.CodePod, fmt.Sprintf("writing the state into the pod's volume %q: %v", cni.Volume, err), "")
	}
	return nil
}

// temporary is what the state is called in the volume until it is there whole.
func (t attachment) temporary() string { return "." + t.nic + ".json." + t.id }

// sweepVolume removes what an ADD that was killed left in the pod's volume. With the
// pod goes the volume, so that it is enough to try.
func (t attachment) sweepVolume(n cni.Network, pod cni.Pod) {
	if pod.UID == "" {
		return
	}
	if volume, err := openVolume(n.KubeletDir, pod); err == nil {
		_ = volume.Remove(t.temporary())
		closeVolume(volume)
	}
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
