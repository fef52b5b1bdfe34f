//go:build e2e

package e2e

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/cluster"
)

const (
	namespace = "podwire-e2e" // of the ordinary pods
	system    = "podwire-system"
	image     = "localhost/podwire-guest:dev" // has a busybox
	busybox   = "/bin/busybox"
)

// world is the cluster with an ordinary pod on each node, to which VMs talk.
type world struct {
	cluster  *cluster.Cluster
	dir      checkout.Dir
	families []family
	peers    []peer
	service  addrs // of the peers
	enforced map[family]enforced
}

// peer is an ordinary pod: a client, and a server that says who asked.
type peer struct {
	pod   string
	node  string
	addrs addrs
}

// newWorld makes the world. It is deleted at the end of the test.
func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := checkout.Find()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{cluster: newCluster(dir), dir: dir, families: families[options.family]}
	t.Cleanup(func() {
		if t.Failed() {
			collect(t, w.cluster, "world", namespace)
		}
		if !options.keep {
			w.delete(t)
		}
	})
	w.delete(t)
	w.apply(t, "peers.yaml", nil)
	within(t, 2*time.Minute, "an ordinary pod on each node", w.findPeers)
	within(t, time.Minute, "the peers' service", func(ctx context.Context) (err error) {
		w.service, err = w.serviceAddrs(ctx, namespace, "peer")
		return err
	})
	within(t, time.Minute, "the ordinary pods to reach each other", w.connected)
	return w
}

// delete deletes what the tests made, and what a run before left.
func (w *world) delete(t *testing.T) {
	t.Helper()
	kinds, err := wantedKinds()
	namespaces := []string{namespace}
	for _, k := range kinds {
		namespaces = append(namespaces, k.namespace())
	}
	// All end at the same time, VMs as they are.
	for _, wait := range []string{"--wait=false", "--wait=true"} {
		err = errors.Join(err, w.command(5*time.Minute, append([]string{"delete", "namespace", "--ignore-not-found", wait}, namespaces...)...))
	}
	if err != nil {
		t.Error(err)
	}
}

// command runs a kubectl that outlives the test.
func (w *world) command(limit time.Duration, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := w.cluster.Kubectl(ctx, args...)
	return err
}

// installCNI installs the chained plugin on each node.
func (w *world) installCNI(t *testing.T) {
	t.Helper()
	if err := w.cluster.ApplyDir(t.Context(), w.manifests("cni")); err != nil {
		t.Fatal(err)
	}
	within(t, 2*time.Minute, "the chained CNI plugin on each node", func(ctx context.Context) error {
		return w.rolledOut(ctx, system)
	})
}

// rolledOut asks whether the DaemonSets of a namespace are as they should be.
func (w *world) rolledOut(ctx context.Context, namespace string) error {
	var sets cluster.List[cluster.DaemonSet]
	if err := w.cluster.Get(ctx, &sets, "--namespace", namespace, "daemonsets"); err != nil {
		return err
	}
	for _, set := range sets.Items {
		if !set.Done() {
			return fmt.Errorf("DaemonSet %q: %+v", set.Name, set.Status)
		}
	}
	if len(sets.Items) == 0 {
		return fmt.Errorf("namespace %q has no DaemonSet", namespace)
	}
	return nil
}

func (w *world) manifests(name string) string {
	return filepath.Join(fromTop(w.dir, options.manifests), name)
}

// findPeers finds the ordinary pods, once there is one on each node.
func (w *world) findPeers(ctx context.Context) error {
	if err := w.rolledOut(ctx, namespace); err != nil {
		return err
	}
	pods, err := w.cluster.Pods(ctx, namespace, "app=peer")
	if err != nil {
		return err
	}
	var peers []peer
	for _, pod := range pods {
		addrs, err := w.podAddrs(pod)
		if err != nil {
			return err
		}
		if !pod.Ready() {
			return fmt.Errorf("pod %q: %s", pod.Name, pod.Why())
		}
		peers = append(peers, peer{pod: pod.Name, node: pod.Spec.NodeName, addrs: addrs})
	}
	if len(peers) < 2 {
		return fmt.Errorf("there are %d ordinary pods", len(peers))
	}
	w.peers = peers
	return nil
}

// near returns the ordinary pod on a node, and far one on another node.
func (w *world) near(node string) peer {
	return w.peers[max(0, slices.IndexFunc(w.peers, func(p peer) bool { return p.node == node }))]
}

func (w *world) far(node string) peer {
	return w.peers[max(0, slices.IndexFunc(w.peers, func(p peer) bool { return p.node != node }))]
}

// serviceAddrs returns the addresses of a service.
func (w *world) serviceAddrs(ctx context.Context, namespace, name string) (addrs, error) {
	out, err := w.cluster.Kubectl(ctx, "get", "--namespace", namespace, "service", name, "-o", "jsonpath={.spec.clusterIPs[*]}")
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, word := range strings.Fields(out) {
		addr, err := netip.ParseAddr(word)
		if err != nil {
			return nil, err
		}
		all = append(all, addr)
	}
	return pick(all, w.families)
}

// connected asks whether the cluster gives ordinary pods what VMs are then tested
// for: in each family they reach each other, with their own addresses, and their
// service, by its address and by a name of that family alone.
func (w *world) connected(ctx context.Context) error {
	for _, f := range w.families {
		for _, from := range w.peers {
			for _, to := range w.peers {
				out, err := w.fetch(ctx, from, url(to.addrs[f], 80, "/cgi-bin/who"))
				if err == nil {
					err = isPeer(out, to, from.addrs[f])
				}
				if err != nil {
					return fmt.Errorf("%s from node %q to node %q: %w", f, from.node, to.node, err)
				}
			}
			for _, at := range []string{url(w.service[f], 80, "/cgi-bin/who"), "http://peer-" + f.short() + "." + namespace + "/cgi-bin/who"} {
				if _, err := w.fetch(ctx, from, at); err != nil {
					return fmt.Errorf("%s from node %q: %w", at, from.node, err)
				}
			}
		}
	}
	return nil
}

// sawAll asks whether the answers of a service were of all ordinary pods.
func (w *world) sawAll(answers string) error {
	for _, p := range w.peers {
		if !strings.Contains(answers, "peer on "+p.node+" ") {
			return fmt.Errorf("nobody on node %q has answered: %q", p.node, answers)
		}
	}
	return nil
}

//go:embed testdata
var testdata embed.FS

// apply applies a file of testdata.
func (w *world) apply(t *testing.T, file string, with map[string]any) {
	t.Helper()
	manifests, err := w.render(file, with)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cluster.Apply(t.Context(), manifests); err != nil {
		t.Fatal(err)
	}
}

// render returns a file of testdata, in which .Families, .FamilyPolicy (of a service of
// all of them) and the values of with are known.
func (w *world) render(file string, with map[string]any) (string, error) {
	values := map[string]any{"Families": w.families, "FamilyPolicy": "SingleStack", "Image": image, "Namespace": namespace}
	if len(w.families) > 1 {
		values["FamilyPolicy"] = "RequireDualStack"
	}
	maps.Copy(values, with)
	text, err := template.New(file).Funcs(template.FuncMap{"short": family.short}).ParseFS(testdata, "testdata/"+file)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = text.Option("missingkey=error").Execute(&b, values)
	return b.String(), err
}

// in runs a busybox command in an ordinary pod.
func (w *world) in(ctx context.Context, p peer, command ...string) (string, error) {
	return w.cluster.Exec(ctx, namespace, p.pod, "peer", append([]string{busybox}, command...)...)
}

// fetch has an ordinary pod fetch a URL.
func (w *world) fetch(ctx context.Context, p peer, url string) (string, error) {
	return w.in(ctx, p, "timeout", "5", busybox, "wget", "-q", "-O", "-", url)
}

// size has an ordinary pod fetch a URL, and returns how long it is.
func (w *world) size(ctx context.Context, p peer, url string) (string, error) {
	out, err := w.in(ctx, p, "sh", "-c", busybox+" timeout 20 "+busybox+" wget -q -O - "+url+" | "+busybox+" wc -c")
	return strings.TrimSpace(out), err
}

// url returns the URL of a path at an address.
func url(addr netip.Addr, port uint16, path string) string {
	return "http://" + netip.AddrPortFrom(addr, port).String() + path
}

// within asks until the answer is no error, and fails the test if that takes too long.
func within(t *testing.T, limit time.Duration, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, fmt.Errorf("waited %s for %s", limit, what))
	defer cancel()
	if err := cluster.Poll(ctx, 500*time.Millisecond, ask); err != nil {
		t.Fatal(err)
	}
}
