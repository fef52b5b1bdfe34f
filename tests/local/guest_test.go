package local

import (
	"errors"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/guest"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// bootTime is a bound on all of a test with a guest, for a slow machine that has
// other things to do.
const bootTime = 90 * time.Second

// machine is a guest that podwire-launcher runs.
type machine struct {
	*guest.Console
	launcher *exec.Cmd
	log      pod.Log
	ended    chan struct{} // closed when the launcher has ended
	err      error         // how it ended
}

// boot runs podwire-launcher in the VM's pod, with a real guest, and waits until
// that is ready. When the test ends, the pod's network must be what it was.
func (w *testWorld) boot(t *testing.T, ask ...string) *machine {
	t.Helper()
	return w.bootWith(t, nil, ask...)
}

// bootWith is boot with arguments for podwire-launcher.
func (w *testWorld) bootWith(t *testing.T, args []string, ask ...string) *machine {
	t.Helper()
	return w.bootDomain(t, guest.Domain{Ask: ask}, args...)
}

// bootDomain is boot for a guest that is more than usual.
func (w *testWorld) bootDomain(t *testing.T, d guest.Domain, args ...string) *machine {
	t.Helper()
	xml, console, err := guest.InPodAs(w.Ctx, w.Dir, w.VM, func() { t.Log("trying KVM") }, d)
	if err != nil {
		t.Fatal(err)
	}
	m := w.launch(t, xml, args...)
	m.Console = console
	if _, err := m.WaitFor(w.Ctx, guest.Prefix+"ready"); err != nil {
		t.Fatalf("%v\n%s", err, m.log.String())
	}
	return m
}

// launch starts podwire-launcher with a domain.
func (w *testWorld) launch(t *testing.T, xml string, args ...string) *machine {
	t.Helper()
	program, err := w.Dir.Program("podwire-launcher")
	if err != nil {
		t.Fatal(err)
	}
	before := w.Settled(t)
	const domain = "/run/test/domain.xml"
	if err := w.VM.WriteFile(domain, []byte(xml), 0o644); err != nil {
		t.Fatal(err)
	}
	m := &machine{ended: make(chan struct{})}
	m.launcher = exec.Command(program, append(args, "--start-libvirtd", domain)...)
	m.launcher.Stdout, m.launcher.Stderr = &m.log, &m.log
	if err := w.VM.Start(m.launcher); err != nil {
		t.Fatal(err)
	}
	go func() {
		m.err = m.launcher.Wait()
		close(m.ended)
	}()
	t.Cleanup(func() {
		_ = m.launcher.Process.Kill() // of a test that failed
		<-m.ended
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("podwire-launcher's log:\n%s", m.log.String())
			return
		}
		w.Afresh(t)
		if diff := cmp.Diff(before, w.Settled(t)); diff != "" {
			t.Errorf("the pod's network afterwards (-before +after):\n%s", diff)
		}
	})
	return m
}

// exit waits for the launcher's end and returns its exit code.
func (w *testWorld) exit(t *testing.T, m *machine) int {
	t.Helper()
	select {
	case <-m.ended:
	case <-w.Ctx.Done():
		t.Fatal("podwire-launcher did not end")
	}
	if status := (*exec.ExitError)(nil); m.err != nil && !errors.As(m.err, &status) {
		t.Fatal(m.err)
	}
	return m.launcher.ProcessState.ExitCode()
}

// terminate ends the launcher as the kubelet does: the guest must shut down.
func (w *testWorld) terminate(t *testing.T, m *machine) {
	t.Helper()
	if err := m.launcher.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := w.exit(t, m); code != 0 {
		t.Errorf("podwire-launcher ended with %d after a clean shutdown", code)
	}
	if _, err := m.WaitFor(w.Ctx, guest.Prefix+"power-button"); err != nil {
		t.Error(err)
	}
}

// run has the guest run a command, which must succeed.
func (w *testWorld) run(t *testing.T, m *machine, command string) string {
	t.Helper()
	out, status, err := m.Run(w.Ctx, command)
	if err != nil || status != 0 {
		t.Fatalf("guest# %s: status %d, %v\n%s", command, status, err, out)
	}
	return out
}

// TestGuestHasThePodsNetwork is podwire's main job.
func TestGuestHasThePodsNetwork(t *testing.T) {
	for _, each := range []struct {
		shape   string
		binding pod.Binding
	}{
		{"bridge", pod.Bridge},
		{"ptp", pod.Bridge},
		{"calico", pod.Bridge},
		{"ptp", pod.TC},
		{"calico", pod.TC},
		{"bridge", pod.Masquerade},
		{"calico", pod.Masquerade},
	} {
		t.Run(each.shape+"/"+string(each.binding), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, each.shape, bootTime).with(each.binding)
			m := w.boot(t)
			lease, err := m.Bound(w.Ctx)
			if err != nil {
				t.Fatal(err)
			}
			want := guest.Lease{
				"ip": w.GuestAddr().String(), "mtu": "1450", "hostname": "vm-0", "dns": "10.96.0.10",
				"search": "default.svc.cluster.local,svc.cluster.local,cluster.local",
			}
			got := guest.Lease{}
			for key := range want {
				got[key] = lease[key]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what the guest was told (-want +got):\n%s", diff)
			}
			if sent, err := m.Discovers(w.Ctx); err != nil || sent != 1 {
				t.Errorf("the guest sent %d DISCOVERs, %v; want 1", sent, err)
			}
			for _, target := range w.Reachable() {
				w.run(t, m, "try-ping "+target.String())
			}
			w.terminate(t, m)
		})
	}
}

// TestGuestIsReachedAtThePodsAddress has another pod fetch a page from the guest.
func TestGuestIsReachedAtThePodsAddress(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, "bridge", bootTime).with(b)
		m := w.boot(t, "podwire.listen=80")
		for _, from := range []*pod.Space{w.Other.Space, w.Node.OutsideHost()} {
			page, err := w.fetch(from, "http://"+w.VM.Addr.Addr().String()+"/")
			if err != nil {
				t.Error(err)
			} else if strings.TrimSpace(page) != "vm-0" {
				t.Errorf("%s fetched %q", from.Name(), page)
			}
		}
		w.terminate(t, m)
	})
}

// fetch gets a page from inside of a space.
func (w *testWorld) fetch(from *pod.Space, url string) (string, error) {
	client := http.Client{Transport: &http.Transport{DialContext: from.Dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	request, err := http.NewRequestWithContext(w.Ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	return string(page), err
}

// TestGuestEndsByItself powers off from inside.
func TestGuestEndsByItself(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, "bridge", bootTime).with(b)
		m := w.boot(t, "podwire.finally=poweroff")
		if code := w.exit(t, m); code != 0 {
			t.Errorf("podwire-launcher ended with %d after the guest powered off", code)
		}
	})
}

// TestDomainThatCannotStart leaves the pod as it was, and says why.
func TestDomainThatCannotStart(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, "bridge", bootTime).with(b)
		if err := w.VM.PrepareLibvirt(); err != nil {
			t.Fatal(err)
		}
		xml, err := guest.Domain{Name: "vm-0", Image: guest.Image{Kernel: "/nonexistent/vmlinuz", Initrd: "/nonexistent/initrd"}, Accel: "tcg"}.XML()
		if err != nil {
			t.Fatal(err)
		}
		m := w.launch(t, strings.Replace(xml, "<source mode='connect' path=''/>", "<source mode='bind' path='/run/test/nobody'/>", 1))
		if code := w.exit(t, m); code != 1 {
			t.Errorf("podwire-launcher ended with %d, want 1", code)
		}
		if !strings.Contains(m.log.String(), "/nonexistent/vmlinuz") {
			t.Errorf("podwire-launcher does not say what is missing:\n%s", m.log.String())
		}
	})
}
