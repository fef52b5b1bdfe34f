package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Collect writes into a directory what can be known of a namespace and of the
// cluster around it: it is for the person who looks at a test that failed. What
// cannot be had is written down as that.
func (c *Cluster) Collect(ctx context.Context, dir, namespace string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	in := []string{"--namespace", namespace}
	err := errors.Join(
		c.save(ctx, dir, "all.txt", "get", "all", "--all-namespaces", "-o", "wide"),
		c.save(ctx, dir, "nodes.txt", "describe", "nodes"),
		c.save(ctx, dir, "describe.txt", append(in, "describe", "pods,services,endpointslices")...),
		c.save(ctx, dir, "pods.yaml", append(in, "get", "pods", "-o", "yaml")...),
		c.save(ctx, dir, "events.txt", append(in, "get", "events", "--sort-by", ".lastTimestamp")...),
	)
	var pods List[Pod]
	if getErr := c.Get(ctx, &pods, append(in, "pods")...); getErr != nil {
		return errors.Join(err, getErr)
	}
	for _, pod := range pods.Items {
		for _, container := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
			err = errors.Join(err, c.saveLogs(ctx, dir, pod, container.Name))
		}
	}
	return err
}

// saveLogs writes a container's log, and that of the one before it, if any.
func (c *Cluster) saveLogs(ctx context.Context, dir string, pod Pod, container string) error {
	file := fmt.Sprintf("log-%s-%s", pod.Name, container)
	args := []string{"logs", "--namespace", pod.Namespace, pod.Name, "--container", container}
	err := c.save(ctx, dir, file+".txt", args...)
	if status, ok := pod.Container(container); ok && status.RestartCount > 0 {
		err = errors.Join(err, c.save(ctx, dir, file+"-previous.txt", append(args, "--previous")...))
	}
	return err
}

// save writes what a kubectl prints to a file.
func (c *Cluster) save(ctx context.Context, dir, name string, args ...string) error {
	out, err := c.Kubectl(ctx, args...)
	if err != nil {
		out += "\n" + err.Error() + "\n"
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(out), 0o644)
}

// SaveExec writes what a command prints in a container of a pod.
func (c *Cluster) SaveExec(ctx context.Context, dir, name, namespace, pod, container string, command ...string) error {
	return c.save(ctx, dir, name, append([]string{"exec", "--namespace", namespace, pod, "--container", container, "--"}, command...)...)
}
