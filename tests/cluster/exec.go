package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
)

// Exec runs a command in a container of a pod and returns its standard output.
func (c *Cluster) Exec(ctx context.Context, namespace, pod, container string, command ...string) (string, error) {
	args := []string{"exec", "--namespace", namespace, pod, "--container", container, "--"}
	return c.Kubectl(ctx, append(args, command...)...)
}

// Logs returns what a container has logged.
func (c *Cluster) Logs(ctx context.Context, namespace, pod, container string) (string, error) {
	return c.Kubectl(ctx, "logs", "--namespace", namespace, pod, "--container", container)
}

// Stream is what a running kubectl prints, as it comes. It is for several goroutines.
type Stream struct {
	mu     sync.Mutex
	text   bytes.Buffer
	stop   context.CancelFunc
	ended  chan struct{}
	endErr error
}

// Write takes what kubectl prints.
func (s *Stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// Text returns what there is so far.
func (s *Stream) Text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// Wait waits for kubectl to end of itself and returns all it printed.
func (s *Stream) Wait(ctx context.Context) (string, error) {
	select {
	case <-ctx.Done():
		return s.Text(), fmt.Errorf("waiting for kubectl to end: %w", context.Cause(ctx))
	case <-s.ended:
		return s.Text(), s.endErr
	}
}

// Close ends kubectl, if it still runs.
func (s *Stream) Close() {
	s.stop()
	<-s.ended
}

// start runs kubectl in the background; both of its outputs go to the stream.
func (c *Cluster) start(ctx context.Context, args ...string) (*Stream, error) {
	ctx, stop := context.WithCancel(ctx)
	s := &Stream{stop: stop, ended: make(chan struct{})}
	cmd := c.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = s, s
	if err := cmd.Start(); err != nil {
		stop()
		return nil, &Error{Args: args, Err: err}
	}
	go func() {
		defer close(s.ended)
		s.endErr = cmd.Wait()
	}()
	return s, nil
}

// Follow follows a container's log, from its beginning to the container's end.
func (c *Cluster) Follow(ctx context.Context, namespace, pod, container string) (*Stream, error) {
	return c.start(ctx, "logs", "--follow", "--namespace", namespace, pod, "--container", container)
}

// RunBeside runs a command in an ephemeral container that sees the processes of
// another container of the pod, as that one's user. It needs nothing of the other
// container, not even a shell, and nothing of the node. It does not wait.
func (c *Cluster) RunBeside(ctx context.Context, namespace, pod, container, name, image string, command ...string) error {
	var object map[string]any
	if err := c.Get(ctx, &object, "--namespace", namespace, "pod", pod); err != nil {
		return err
	}
	if err := addEphemeral(object, container, map[string]any{"name": name, "image": image, "command": command}); err != nil {
		return fmt.Errorf("adding a container to pod %q: %w", pod, err)
	}
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	_, err = c.kubectl(ctx, string(body), []string{"replace", "--raw", podPath(namespace, pod) + "/ephemeralcontainers", "-f", "-"})
	return err
}

// addEphemeral adds an ephemeral container to a pod.
func addEphemeral(pod map[string]any, target string, container map[string]any) error {
	spec, _ := pod["spec"].(map[string]any)
	for _, kind := range []string{"containers", "initContainers"} {
		list, _ := spec[kind].([]any)
		for _, each := range list {
			other, _ := each.(map[string]any)
			if other["name"] != target {
				continue
			}
			container["targetContainerName"] = target
			container["imagePullPolicy"] = "IfNotPresent"
			if user, ok := other["securityContext"]; ok {
				container["securityContext"] = user
			}
			ephemeral, _ := spec["ephemeralContainers"].([]any)
			spec["ephemeralContainers"] = append(ephemeral, container)
			return nil
		}
	}
	return fmt.Errorf("it has no container %q", target)
}
