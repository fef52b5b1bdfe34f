//go:build e2e

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/cluster"
	"github.com/podwire/podwire/tests/cluster/report"
)

// options are the flags. Paths are relative to the top of the checkout.
var options struct {
	kubeconfig  string
	shapes      string
	layout      string
	binding     string
	family      string
	accel       string
	restartNode string
	artifacts   string
	suite       string
	manifests   string
	docs        string
	ready       time.Duration
	keep        bool
}

func init() {
	o := &options
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "the cluster; kubectl's own choice where empty, which is KUBECONFIG")
	flag.StringVar(&o.shapes, "shapes", "launcher,split,hook,chained", "which shapes of VM pod to test; SHAPE/BINDING for one with that binding alone")
	flag.StringVar(&o.layout, "layout", "ptp", "how the cluster's CNI plugin makes a pod's network; a name for the output, and see layouts")
	flag.StringVar(&o.binding, "binding", "bridge", "the bindings of the shapes that are named without")
	flag.StringVar(&o.family, "family", "ipv4", "the address families that the cluster's pods have: ipv4, ipv6 or dual")
	flag.StringVar(&o.accel, "accel", "tcg", "how QEMU runs the guest: tcg or kvm")
	flag.StringVar(&o.restartNode, "restart-node", "", "a shell command that restarts the node whose name it gets as its last word, such as \"docker restart\"; none: no node is restarted")
	flag.StringVar(&o.artifacts, "artifacts", filepath.Join("build", "e2e"), "where to write what can be known of a test that failed")
	flag.StringVar(&o.suite, "suite", "full", "full, or traffic: what depends on the layout")
	flag.StringVar(&o.manifests, "manifests", "manifests", "the folder of the shapes")
	flag.StringVar(&o.docs, "docs", "", "run the commands of this page, and nothing else; they make the cluster")
	flag.DurationVar(&o.ready, "ready", 4*time.Minute, "how long a VM pod may take to be Ready")
	flag.BoolVar(&o.keep, "keep", false, "leave the pods of the tests where they are")
}

// tables are what the run ends with: one for each binding.
var tables = map[string]*report.Table{}

func TestMain(m *testing.M) {
	flag.Parse()
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		status = 1
	}
	os.Exit(status)
}

// quickstart is the test that makes the cluster which the others need: -docs asks for
// it, and for nothing else.
const quickstart = "^TestQuickstart$"

// run runs the tests if there is a cluster to run them in.
func run(m *testing.M) (int, error) {
	dir, err := checkout.Find()
	if err != nil {
		return 0, err
	}
	if options.docs != "" {
		if err := flag.Set("test.run", quickstart); err != nil {
			return 0, err
		}
		return m.Run(), nil
	}
	if err := flag.Set("test.skip", quickstart); err != nil {
		return 0, err
	}
	wanted, err := wantedKinds()
	if err != nil {
		return 0, err
	}
	if err := checkOptions(); err != nil {
		return 0, err
	}
	if err := reach(dir); err != nil {
		return 0, err
	}
	makeTables(wanted)
	status := m.Run()
	var text string
	for _, b := range bindings {
		if table := tables[b.name]; table != nil {
			text += table.Text(fmt.Sprintf("layout %s, binding %s, %s:", options.layout, b.name, options.family)) + "\n"
		}
	}
	fmt.Print("\n", text)
	return status, writeTable(dir, text)
}

// reach makes sure of the cluster, so that one that is not there is said once.
func reach(dir checkout.Dir) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), time.Minute, errors.New("waited a minute for two Ready nodes"))
	defer cancel()
	c := newCluster(dir)
	return cluster.Poll(ctx, time.Second, func(ctx context.Context) error {
		nodes, err := c.Nodes(ctx)
		if err != nil {
			return err
		}
		ready := 0
		for _, node := range nodes {
			if node.Ready() {
				ready++
			}
		}
		if ready < 2 {
			return fmt.Errorf("the cluster has %d nodes of which %d are Ready; the tests need two", len(nodes), ready)
		}
		return nil
	})
}

func newCluster(dir checkout.Dir) *cluster.Cluster {
	return &cluster.Cluster{Kubeconfig: options.kubeconfig, Dir: string(dir)}
}

// makeTables makes a table for each binding, of the shapes that have it.
func makeTables(wanted []kind) {
	for _, b := range bindings {
		var names []string
		for _, k := range wanted {
			if k.binding.name == b.name {
				names = append(names, k.name)
			}
		}
		if names != nil {
			tables[b.name] = report.New(names, suite(b))
		}
	}
}

// wantedKinds returns the kinds of VM pod to test.
func wantedKinds() ([]kind, error) { return parseKinds(options.shapes, options.binding) }

func checkOptions() error {
	if _, ok := families[options.family]; !ok {
		return fmt.Errorf("flag -family: %q is none of ipv4, ipv6 and dual", options.family)
	}
	if options.suite != "full" && options.suite != "traffic" {
		return fmt.Errorf("flag -suite: %q is neither full nor traffic", options.suite)
	}
	if options.accel != "tcg" && options.accel != "kvm" {
		return fmt.Errorf("flag -accel: %q is neither tcg nor kvm", options.accel)
	}
	return nil
}

func writeTable(dir checkout.Dir, text string) error {
	artifacts := fromTop(dir, options.artifacts)
	if err := os.MkdirAll(artifacts, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(artifacts, "table-"+options.layout+"-"+options.family+".txt"), []byte(text), 0o644)
}

// fromTop returns a path that may be relative to the top of the checkout.
func fromTop(dir checkout.Dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(string(dir), path)
}
