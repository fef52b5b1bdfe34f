package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/podwire/podwire/internal/survive"
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

// What those who ask may cost at a time.
const (
	mostAsking     = 16
	longestRequest = 4 << 10
	longestAnswer  = 1 << 20
)

// Control answers on a socket until ctx ends.
type Control struct {
	listener net.Listener
	path     string
	log      *slog.Logger
	handle   func(Op) (*Status, error)

	own, others chan struct{} // full when as many ask as may: of those who may ask for all, and of the rest
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
	l, err := bindSocket(path)
	if err != nil {
		return nil, err
	}
	return &Control{
		listener: l, path: path, log: log, handle: handle,
		own: make(chan struct{}, mostAsking), others: make(chan struct{}, mostAsking),
	}, nil
}

// Close closes the socket of a Control that does not serve.
func (c *Control) Close() { _ = c.listener.Close() }

// Serve answers until ctx ends, and removes the socket.
func (c *Control) Serve(ctx context.Context) {
	stop := survive.AfterFunc(ctx, c.panicked, c.Close)
	defer stop()
	defer c.Close() // also removes the socket
	var pending sync.WaitGroup
	defer pending.Wait()
	survive.Again(ctx, c.panicked, func() {
		for c.accept(ctx, &pending) {
		}
	})
}

// accept takes one connection, and closes it where its kind has as many as it may. It
// reports whether there may be another.
func (c *Control) accept(ctx context.Context, pending *sync.WaitGroup) bool {
	conn, err := c.listener.Accept()
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return false
		}
		// What is missing most likely is a file descriptor.
		c.log.Warn("the control socket failed, trying again", "err", err)
		return survive.Wait(ctx, time.Second)
	}
	slots := c.others
	if mayAsk(conn, OpStop) == nil {
		slots = c.own
	}
	select {
	case slots <- struct{}{}:
	default:
		_ = conn.Close()
		return true
	}
	survive.Go(pending, c.panicked, func() {
		defer func() { <-slots }()
		c.answer(conn)
	})
	return true
}

func (c *Control) panicked(p any, stack []byte) {
	c.log.Error("the control socket panicked and goes on", "err", fmt.Sprint(p), "stack", string(stack))
}

func (c *Control) answer(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(controlTime))
	var req request
	if err := json.NewDecoder(io.LimitReader(conn, longestRequest)).Decode(&req); err != nil {
		return
	}
	var resp response
	var st *Status
	err := mayAsk(conn, req.Op)
	if err == nil {
		st, err = c.handle(req.Op)
	}
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
	if err := json.NewDecoder(io.LimitReader(conn, longestAnswer)).Decode(&resp); err != nil {
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
