//go:build linux

package kernel

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// Reattach binds the socket to the link that has its name now, and has it hear the
// matches. It needs no capability: a packet socket's may be bound, and filtered, by whoever
// has it open. Where there is no such link the error is fs.ErrNotExist.
func (c *TapConn) Reattach(ctx context.Context, accept []plan.Match) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("attaching to tap %q again: %w", c.name, err)
	}
	raw, err := c.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("attaching to tap %q again: %w", c.name, err)
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = reattach(int(fd), c.name, accept) })
	if err == nil {
		err = inner
	}
	if isErrno(err, unix.ENODEV) {
		err = errLinkGone
	}
	if err != nil {
		return fmt.Errorf("attaching to tap %q again: %w", c.name, err)
	}
	return nil
}

// reattach puts the filter in first: what the old link's frames are heard by for a
// moment more does not matter, what the new link's are heard by does.
func reattach(fd int, name string, accept []plan.Match) error {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return err
	}
	if err := attachFilter(fd, accept); err != nil {
		return fmt.Errorf("filtering frames: %w", err)
	}
	return bindTo(fd, int(req.Uint32()), accept)
}
