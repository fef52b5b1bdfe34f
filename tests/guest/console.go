package guest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Prefix begins the lines that the guest's own scripts print.
const Prefix = "podwire-guest: "

// Console is the guest's serial line: what it printed, and a way to have it run
// commands. It is for several goroutines, except that Run is for one at a time.
type Console struct {
	mu      sync.Mutex
	lines   []string
	changed chan struct{} // closed at the next line, or at the end
	closed  bool
	conn    net.Conn
	id      int
}

// Listen takes the one connection that QEMU makes to a socket and reads it to
// its end. Nothing that the guest prints is lost: QEMU does not start it before
// it has connected.
func Listen(l net.Listener) *Console {
	c := &Console{changed: make(chan struct{})}
	go func() {
		conn, err := l.Accept()
		if err == nil {
			c.mu.Lock()
			c.conn = conn
			c.mu.Unlock()
			c.read(conn)
		}
		l.Close()
		c.mu.Lock()
		c.closed = true
		close(c.changed)
		c.mu.Unlock()
	}()
	return c
}

// escapes are what a PC's firmware sends to a terminal.
var escapes = regexp.MustCompile(`\x1b(\[[0-9;?]*[a-zA-Z]|c)`)

func (c *Console) read(r io.Reader) {
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		line := escapes.ReplaceAllString(strings.TrimRight(scanner.Text(), "\r"), "")
		c.mu.Lock()
		// The firmware, the kernel and commands may leave a line unfinished.
		if before, after, ok := strings.Cut(line, Prefix); ok {
			if before != "" {
				c.lines = append(c.lines, before)
			}
			line = Prefix + after
		}
		c.lines = append(c.lines, line)
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
	}
}

// Lines returns what the guest printed so far.
func (c *Console) Lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.lines...)
}

// WaitFor returns the first line that matches, with its groups, and waits for it
// if it has yet to come. The error of a line that never came ends with the last
// lines that did.
func (c *Console) WaitFor(ctx context.Context, pattern string) ([]string, error) {
	match, _, err := c.WaitAfter(ctx, 0, pattern)
	return match, err
}

// WaitAfter is WaitFor for the lines from the given one on; it also returns the
// number of the line after the match, to go on from.
func (c *Console) WaitAfter(ctx context.Context, from int, pattern string) ([]string, int, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, from, err
	}
	for i := from; ; i++ {
		line, err := c.line(ctx, i)
		if err != nil {
			return nil, i, fmt.Errorf("waiting for %q on the guest's console: %w; it said last:\n%s", pattern, err, c.tail())
		}
		if match := re.FindStringSubmatch(line); match != nil {
			return match, i + 1, nil
		}
	}
}

// line returns a line by its number, once it is there.
func (c *Console) line(ctx context.Context, number int) (string, error) {
	for {
		c.mu.Lock()
		changed, closed := c.changed, c.closed
		if number < len(c.lines) {
			line := c.lines[number]
			c.mu.Unlock()
			return line, nil
		}
		c.mu.Unlock()
		if closed {
			return "", io.EOF
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-changed:
		}
	}
}

// tail returns the last lines, indented.
func (c *Console) tail() string {
	lines := c.Lines()
	return "\t" + strings.Join(lines[max(0, len(lines)-15):], "\n\t")
}

// Run has the guest run a command in its shell, and returns what it printed and
// its exit status. The guest must have said that it is ready.
func (c *Console) Run(ctx context.Context, command string) (output string, status int, err error) {
	c.mu.Lock()
	c.id++
	conn, id, from := c.conn, c.id, len(c.lines)
	c.mu.Unlock()
	if conn == nil {
		return "", 0, fmt.Errorf("running %q in the guest: its console is not connected", command)
	}
	if _, err := fmt.Fprintf(conn, "%d %s\n", id, command); err != nil {
		return "", 0, fmt.Errorf("running %q in the guest: %w", command, err)
	}
	_, first, err := c.WaitAfter(ctx, from, fmt.Sprintf("^%sbegin %d$", Prefix, id))
	if err != nil {
		return "", 0, err
	}
	end, next, err := c.WaitAfter(ctx, first, fmt.Sprintf("^%send %d ([0-9]+)$", Prefix, id))
	if err != nil {
		return "", 0, err
	}
	status, err = strconv.Atoi(end[1])
	return strings.Join(c.Lines()[first:next-1], "\n"), status, err
}

// Lease is what a guest's DHCP client was told, by the names that udhcpc gives
// its script; lists have commas. What was not told is not in it, or empty.
type Lease map[string]string

// ParseLease reads a line "lease event=bound ip=... mask=..." of the console.
func ParseLease(line string) Lease {
	lease := Lease{}
	for _, field := range strings.Fields(line) {
		if key, value, ok := strings.Cut(field, "="); ok && value != "" {
			lease[key] = value
		}
	}
	return lease
}

// Bound waits for the guest to get a lease and returns it.
func (c *Console) Bound(ctx context.Context) (Lease, error) {
	match, err := c.WaitFor(ctx, "^"+Prefix+"lease event=bound .*")
	if err != nil {
		return nil, err
	}
	return ParseLease(match[0]), nil
}

// Bound6 waits for the guest to get a lease of DHCPv6, whose address nobody else has,
// and returns it. It has "ip", "dns", "search", "hostname" and "lease".
func (c *Console) Bound6(ctx context.Context) (Lease, error) {
	match, err := c.WaitFor(ctx, "^"+Prefix+"lease6 event=bound .*")
	if err != nil {
		return nil, err
	}
	return ParseLease(match[0]), nil
}

// Queues returns how many pairs of queues the guest uses of a link that it calls by that
// name: no more than it has CPUs.
func (c *Console) Queues(ctx context.Context, nic string) (int, error) {
	match, err := c.WaitFor(ctx, "^"+Prefix+"nic name="+regexp.QuoteMeta(nic)+" .*queues=([0-9]+)")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(match[1])
}

// Discovers waits until the guest's DHCP client has ended its work and returns
// how many DISCOVERs it sent.
func (c *Console) Discovers(ctx context.Context) (int, error) {
	match, err := c.WaitFor(ctx, "^"+Prefix+"dhcp .*discovers=([0-9]+)")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(match[1])
}
