package cniplugin

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/pod"
)

// wired is a world with a pod that is wired.
func wired(t *testing.T, first, entry string, annotations map[string]string) (*world, *container) {
	t.Helper()
	w := newWorld(t)
	w.makeVolume(t)
	c := w.sandbox(t, first, entry, cniVersion, annotations)
	c.mustAdd(t)
	if links := c.links(t); !strings.Contains(links, "tap-eth0") {
		t.Fatalf("the pod has the links %s", links)
	}
	return w, c
}

// gone ends the pod's namespace, as a crash of the node's runtime may; path says
// what is left of its path.
func (c *container) gone(t *testing.T, path string) {
	t.Helper()
	c.w.run(t, "umount", c.rt.NetNS)
	switch path {
	case "no file":
		c.w.run(t, "rm", c.rt.NetNS)
	case "no path":
		c.rt.NetNS = ""
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDELWithoutItsNamespace(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"an empty file", "no file", "no path"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			w, c := wired(t, "bridge", entry, asking())
			c.gone(t, path)
			for range 2 {
				if err := c.call(t, "DEL", nil); err != nil {
					t.Fatal(err)
				}
				w.wantNothingLeft(t)
			}
		})
	}
}

// TestDELPutsThePodBack compares all there is of its network.
func TestDELPutsThePodBack(t *testing.T) {
	t.Parallel()
	for first := range firsts {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, b pod.Binding) {
				w := newWorld(t)
				w.makeVolume(t)
				c := w.sandbox(t, first, entry, cniVersion, askingFor(b))
				bare := w.sandboxList(t, first, cniVersion)
				if _, err := w.cni.AddNetworkList(w.ctx, bare, c.rt); err != nil {
					t.Fatal(err)
				}
				before := c.settled(t)
				for range 2 { // a runtime that is not sure may ask twice
					if err := c.addPodwire(t, bare); err != nil {
						t.Fatal(err)
					}
				}
				// What the pod makes of its copy is of no consequence.
				w.run(t, "sh", "-c", "echo '{}' > "+volume+"/eth0.json")
				if err := c.call(t, "DEL", nil); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(before, c.settled(t)); diff != "" {
					t.Errorf("the pod's network after DEL (-before +after):\n%s", diff)
				}
			})
		})
	}
}

// TestDELOfADamagedState must not be tried for ever.
func TestDELOfADamagedState(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b pod.Binding) {
		w, c := wired(t, "bridge", entry, askingFor(b))
		state := stateDir + "/" + c.rt.ContainerID + "/eth0.json"
		w.run(t, "sh", "-c", "echo '{' > "+state)
		c.mustDel(t)
		if left := w.left(t); !strings.Contains(left, "eth0.json.stale") {
			t.Errorf("the state was not set aside:\n%s", left)
		}
		c.mustDel(t)
	})
}

// TestWhatCannotBePutBackIsGivenUp after three tries that failed: a route by a gateway
// that nobody has. A try that was killed does not count.
func TestWhatCannotBePutBackIsGivenUp(t *testing.T) {
	t.Parallel()
	w, c := wired(t, "bridge", entry, asking())
	state := stateDir + "/" + c.rt.ContainerID + "/eth0.json"
	w.run(t, "sed", "-i", `s/"via": "10.244.1.1"/"via": "203.0.113.9"/; s/"phase": "applied"/"phase": "undoing"/`, state)
	for n := range 2 {
		wantCode(t, c.call(t, "DEL", nil), 102, "could not be put back")
		if text := w.run(t, "cat", state); !strings.Contains(text, fmt.Sprintf(`"failures": %d`, n+1)) {
			t.Errorf("after try %d the state does not say so", n+1)
		}
	}
	if err := c.call(t, "DEL", nil); err != nil {
		t.Errorf("the third time: %v", err)
	}
	if left := w.left(t); !strings.Contains(left, "eth0.json.stale") {
		t.Errorf("the state was not set aside:\n%s", left)
	}
	c.mustDel(t)
}

// TestLockedIsToBeTriedAgain, which is what code 11 says.
func TestLockedIsToBeTriedAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for ten seconds")
	}
	t.Parallel()
	w, c := wired(t, "bridge", entry, asking())
	dir := stateDir + "/" + c.rt.ContainerID
	cmd := exec.Command("flock", "--close", dir, "sh", "-c", "echo held; exec sleep 60")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.node.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.call(t, "DEL", nil), 11, "held by another process")
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
	c.mustDel(t)
}

// TestSandboxMadeAnew is what a kubelet does when a sandbox dies: another one for
// the same pod, whose volume stays.
func TestSandboxMadeAnew(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b pod.Binding) {
		w, c := wired(t, "ptp", entry, askingFor(b))
		first, err := w.node.ReadFile(volume + "/eth0.json")
		if err != nil {
			t.Fatal(err)
		}
		c.gone(t, "no file")
		c.mustDel(t)
		again := w.sandbox(t, "ptp", entry, cniVersion, askingFor(b))
		again.rt.ContainerID = strings.Repeat("decade00", 8)
		again.mustAdd(t)
		ip, router := guestOf(b, "10.244.1.3")
		wantServed(t, again, map[string]string{"ip": ip, "router": router, "hostname": "vm-0", "dns": "10.96.0.10"})
		second, err := w.node.ReadFile(volume + "/eth0.json")
		if err != nil || string(first) == string(second) {
			t.Errorf("the published state is the old one, %v", err)
		}
		again.mustDel(t)
	})
}

// TestContainerStartedAgain is what podman does: the same ID, another namespace, and
// no DEL if it crashed.
func TestContainerStartedAgain(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b pod.Binding) {
		w, c := wired(t, "bridge", entry, askingFor(b))
		c.gone(t, "no file")
		again := w.sandbox(t, "bridge", entry, cniVersion, askingFor(b))
		bare := w.sandboxList(t, "bridge", cniVersion)
		again.rt.ContainerID += "1" // for the address, which the first one still has
		if _, err := w.cni.AddNetworkList(w.ctx, bare, again.rt); err != nil {
			t.Fatal(err)
		}
		w.run(t, "cp", "-r", stateDir+"/"+c.rt.ContainerID, stateDir+"/"+again.rt.ContainerID)
		if err := again.addPodwire(t, bare); err != nil {
			t.Fatal(err)
		}
		if links := again.links(t); !strings.Contains(links, "tap-eth0") {
			t.Errorf("the pod has the links %s", links)
		}
		again.mustDel(t)
	})
}

func TestCHECKFindsDrift(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b pod.Binding) {
		w, c := wired(t, "bridge", entry, askingFor(b))
		if err := c.call(t, "CHECK", nil); err != nil {
			t.Errorf("CHECK of a pod that is as planned: %v", err)
		}
		spoil, names := map[pod.Binding]string{
			pod.Bridge:     "ip link set tap-eth0 nomaster",
			pod.TC:         "tc filter del dev eth0 ingress",
			pod.Masquerade: "nft delete table inet podwire-eth0",
		}, map[pod.Binding]string{pod.Bridge: "tap-eth0", pod.TC: "eth0", pod.Masquerade: "podwire-eth0"}
		words := strings.Fields(spoil[b])
		if _, err := c.Run(w.ctx, words[0], words[1:]...); err != nil {
			t.Fatal(err)
		}
		wantCode(t, c.call(t, "CHECK", nil), 103, names[b])
		c.mustDel(t)
		asks := map[string]any{"runtimeConfig": c.annotations(askingFor(b))}
		wantCode(t, c.call(t, "CHECK", asks), 103, "is not")
	})
}

// TestCHECKOfThePluginsBefore fails with bridge, for the VM has the pod's addresses. It is
// why CRI-O needs disableCheck. The other bindings leave the pod interface alone.
func TestCHECKOfThePluginsBefore(t *testing.T) {
	t.Parallel()
	for first := range firsts {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, b pod.Binding) {
				w, c := wired(t, first, entry, askingFor(b))
				err := w.cni.CheckNetworkList(w.ctx, c.list, c.rt)
				if b.Keeps() != (err == nil) {
					t.Errorf("CHECK of the chain: %v", err)
				}
				c.list.DisableCheck = true
				if err := w.cni.CheckNetworkList(w.ctx, c.list, c.rt); err != nil {
					t.Errorf("with disableCheck: %v", err)
				}
				c.mustDel(t)
			})
		})
	}
}

// TestSTATUS looks at nothing but the configuration: where it fails, the runtime
// takes the network away from all pods.
func TestSTATUS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.sandbox(t, "bridge", entry, cniVersion, nil)
	w.run(t, "mount", "-t", "tmpfs", "tmpfs", "/dev/net")
	if err := c.call(t, "STATUS", nil); err != nil {
		t.Errorf("without /dev/net/tun: %v", err)
	}
	wantCode(t, c.call(t, "STATUS", map[string]any{"wire": "some"}), 7, "want annotated or all")
}

// TestCosts says what the plugin takes. It demands little, for machines differ.
func TestCosts(t *testing.T) {
	w := newWorld(t)
	w.makeVolume(t)
	const rounds = 20
	for name, annotations := range map[string]map[string]string{"a pod that does not ask": nil, "a pod that asks": asking()} {
		c := w.sandbox(t, "bridge", entry, cniVersion, annotations)
		bare := w.sandboxList(t, "bridge", cniVersion)
		if _, err := w.cni.AddNetworkList(w.ctx, bare, c.rt); err != nil {
			t.Fatal(err)
		}
		var adds, dels time.Duration
		for range rounds {
			began := time.Now()
			if err := c.addPodwire(t, bare); err != nil {
				t.Fatal(err)
			}
			added := time.Now()
			if err := c.call(t, "DEL", nil); err != nil {
				t.Fatal(err)
			}
			adds, dels = adds+added.Sub(began), dels+time.Since(added)
		}
		t.Logf("%s: ADD %v, DEL %v", name, adds/rounds, dels/rounds)
		if annotations == nil && adds/rounds > time.Second {
			t.Errorf("a pod that does not ask waits for %v", adds/rounds)
		}
		if err := w.cni.DelNetworkList(w.ctx, bare, c.rt); err != nil {
			t.Fatal(err)
		}
		w.run(t, "umount", c.rt.NetNS)
	}
}
