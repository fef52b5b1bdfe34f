package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A server is spoken to over a Unix socket in the state directory, one JSON
// request and one JSON answer a connection. A path works across the containers
// of a pod, whose process numbers mean nothing to each other; and that the
// socket answers says that the server lives, which no file could.

// Op is what a server can be asked.
type Op string

// The requests.
const (
	OpStatus Op = "status" // how do you do
	OpReload Op = "reload" // read the state again
	OpStop   Op = "stop"   // end; the answer comes when nothing is served any more
)

type request struct {
	Op Op `json:"op"`
}

type response struct {
	Status *Status `json:"status,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// controlTime bounds one connection, so that a client that stalls costs nothing.
const controlTime = 5 * time.Second

// Control answers on a socket until ctx ends.
type Control struct {
	listener net.Listener
	path     string
	log      *slog.Logger
	handle   func(Op) (*Status, error)
}

// Listen opens the socket. A socket that nobody listens on any more is a crash's
// and is replaced; one that answers belongs to a server that runs, which is an
// error. The caller holds the state directory's lock.
func Listen(path string, log *slog.Logger, handle func(Op) (*Status, error)) (*Control, error) {
	switch st, err := Ask(context.Background(), path, OpStatus); {
	case err == nil:
		return nil, fmt.Errorf("the interface is already served by process %d", st.PID)
	case !errors.Is(err, ErrNotServing):
		return nil, fmt.Errorf("the interface has a server that does not answer: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing a stale control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the control socket: %w", err), l.Close())
	}
	return &Control{listener: l, path: path, log: log, handle: handle}, nil
}

// Close closes the socket of a Control that does not serve.
func (c *Control) Close() { _ = c.listener.Close() }

// Serve answers until ctx ends, and removes the socket.
func (c *Control) Serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = c.listener.Close() })
	defer stop()
	var pending sync.WaitGroup
	defer pending.Wait()
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				c.log.Warn("the control socket failed", "err", err)
			}
			_ = c.listener.Close() // also removes the socket
			return
		}
		pending.Go(func() { c.answer(conn) })
	}
}

func (c *Control) answer(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(controlTime))
	var req request
	if err := json.NewDecoder(conn).Decode(&req); err != nil {
		return
	}
	var resp response
	st, err := c.handle(req.Op)
	if err != nil {
		resp.Error = err.Error()
	}
	if st != nil {
		st.PID = os.Getpid()
		resp.Status = st
	}
	_ = json.NewEncoder(conn).Encode(resp)
}

// ErrNotServing says that nobody listens on a control socket.
var ErrNotServing = errors.New("not serving")

// Ask sends a request to the server behind a socket. The error is ErrNotServing
// where none runs.
func Ask(ctx context.Context, path string, op Op) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return Status{}, ErrNotServing
	}
	if err != nil {
		return Status{}, fmt.Errorf("asking the server: %w", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if err := json.NewEncoder(conn).Encode(request{Op: op}); err != nil {
		return Status{}, fmt.Errorf("asking the server: %w", err)
	}
	var resp response
	if err := json.NewDecoder(conn).Decode(&resp); err != nil {
		return Status{}, fmt.Errorf("asking the server: %w", err)
	}
	if resp.Error != "" {
		return Status{}, errors.New(resp.Error)
	}
	if resp.Status == nil {
		return Status{}, nil
	}
	return *resp.Status, nil
}
