package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// Forward is a running kubectl port-forward.
type Forward struct {
	*Stream
	Addr string // where it listens
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:[0-9]+) `)

// PortForward forwards a free port of this machine to one of a pod.
func (c *Cluster) PortForward(ctx context.Context, namespace, pod string, port int) (*Forward, error) {
	stream, err := c.start(ctx, "port-forward", "--namespace", namespace, "--address", "127.0.0.1", "pod/"+pod, ":"+strconv.Itoa(port))
	if err != nil {
		return nil, err
	}
	f := &Forward{Stream: stream}
	err = Poll(ctx, 50*time.Millisecond, func(context.Context) error {
		match := forwarding.FindStringSubmatch(stream.Text())
		if match == nil {
			return fmt.Errorf("kubectl port-forward does not say where it listens: %q", stream.Text())
		}
		f.Addr = match[1]
		return nil
	})
	if err != nil {
		stream.Close()
		return nil, err
	}
	return f, nil
}

// Fetch fetches a path over HTTP through the forward.
func (f *Forward) Fetch(ctx context.Context, path string) (body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.Addr+path, nil)
	if err != nil {
		return "", err
	}
	// Each fetch is a connection of its own, for each is a forward of its own.
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("fetching %q: %s", path, resp.Status)
	}
	return string(data), err
}
