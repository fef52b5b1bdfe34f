package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Cluster is a cluster, by its kubeconfig.
type Cluster struct {
	Kubeconfig string // kubectl's own choice where empty
	Dir        string // where kubectl is run
}

// Error is a kubectl that failed, with what it said.
type Error struct {
	Args   []string
	Stderr string
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("running kubectl %s: %v: %s", strings.Join(e.Args, " "), e.Err, strings.TrimSpace(e.Stderr))
}

// Unwrap returns how it failed.
func (e *Error) Unwrap() error { return e.Err }

// command makes a kubectl that ends with ctx.
func (c *Cluster) command(ctx context.Context, args ...string) *exec.Cmd {
	if c.Kubeconfig != "" {
		args = append([]string{"--kubeconfig", c.Kubeconfig}, args...)
	}
	cmd := exec.CommandContext(ctx, "kubectl", args...)
	cmd.Dir = c.Dir
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Kubectl runs kubectl and returns what it printed.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.kubectl(ctx, "", args)
}

func (c *Cluster) kubectl(ctx context.Context, stdin string, args []string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := c.command(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return stdout.String(), &Error{Args: args, Stderr: stderr.String(), Err: err}
	}
	return stdout.String(), nil
}

// Get reads the objects that kubectl get names as JSON.
func (c *Cluster) Get(ctx context.Context, into any, args ...string) error {
	args = append(append([]string{"get"}, args...), "-o", "json")
	out, err := c.Kubectl(ctx, args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("reading what kubectl %s printed: %w", strings.Join(args, " "), err)
	}
	return nil
}

// Apply applies manifests, in YAML or JSON.
func (c *Cluster) Apply(ctx context.Context, manifests string) error {
	_, err := c.kubectl(ctx, manifests, []string{"apply", "-f", "-"})
	return err
}

// ApplyDir applies a kustomization.
func (c *Cluster) ApplyDir(ctx context.Context, dir string) error {
	_, err := c.Kubectl(ctx, "apply", "-k", dir)
	return err
}

// DeleteDir deletes what a kustomization holds, where it is there, and waits for
// it to be gone.
func (c *Cluster) DeleteDir(ctx context.Context, dir string) error {
	_, err := c.Kubectl(ctx, "delete", "-k", dir, "--ignore-not-found")
	return err
}

// DeleteNamespace deletes a namespace, where it is there, and waits for it to be
// gone.
func (c *Cluster) DeleteNamespace(ctx context.Context, name string) error {
	_, err := c.Kubectl(ctx, "delete", "namespace", name, "--ignore-not-found")
	return err
}

// Evict asks for a pod's eviction, as kubectl drain does.
func (c *Cluster) Evict(ctx context.Context, namespace, pod string) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction",
		"metadata": map[string]string{"name": pod, "namespace": namespace},
	})
	if err != nil {
		return err
	}
	_, err = c.kubectl(ctx, string(body), []string{"create", "--raw", podPath(namespace, pod) + "/eviction", "-f", "-"})
	return err
}

// podPath returns the path of a pod in the API.
func podPath(namespace, pod string) string {
	return "/api/v1/namespaces/" + namespace + "/pods/" + pod
}
