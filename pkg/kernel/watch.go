//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

// How long the network must have been quiet before it is looked at: who changes it does
// so in several steps. One that never is quiet is looked at all the same.
const (
	watchQuiet = 200 * time.Millisecond
	watchMost  = 2 * time.Second
)

// watched are the multicast groups of rtnetlink that tell of what a guest is told of.
// That of neighbours is not among them: it speaks of every host that is heard.
var watched = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
}

// Watch hears that links, addresses or routes of a namespace change. It holds one socket,
// which needs no capability, and no timer while nothing happens.
type Watch struct {
	file *os.File
}

// Watch begins to listen: what changes from now on is heard by Wait.
func (k *Kernel) Watch() (*Watch, error) {
	w := &Watch{}
	err := k.netns.do(func() (err error) {
		w.file, err = openWatch()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watching the network namespace: %w", err)
	}
	return w, nil
}

func openWatch() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, group := range watched {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group))
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "rtnetlink"), nil
}

// Close ends a Wait.
func (w *Watch) Close() error { return w.file.Close() }

// Wait returns when something has changed and the network is quiet again, or when ctx
// ends, with its error. What changed it does not say: so it loses nothing where the
// socket cannot hold all that happens.
func (w *Watch) Wait(ctx context.Context) error {
	if err := w.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	late := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(late); _ = w.file.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			<-late // or it would end the next Wait
		}
	}()
	if err := w.hear(); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	for most := time.Now().Add(watchMost); time.Now().Before(most); {
		if err := w.file.SetReadDeadline(time.Now().Add(watchQuiet)); err != nil {
			return err
		}
		err := w.hear()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hear waits for one message. Of those that are too many for the socket the kernel says
// ENOBUFS, once; of one that is too long for the buffer the rest is gone. Neither
// matters.
func (w *Watch) hear() error {
	var message [64]byte
	_, err := w.file.Read(message[:])
	return unless(err, unix.ENOBUFS)
}

// Network is the part of a Snapshot that a guest is told of: links, addresses, routes
// and neighbours. It opens nothing and needs no capability, so that a server that has
// given up all it can do without can read it.
func (k *Kernel) Network(ctx context.Context) (s netstate.Snapshot, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.Links, err = k.links(ctx); err == nil {
		s.Addrs, err = k.addrs(ctx)
	}
	if err == nil {
		s.Routes, err = k.routes(ctx)
	}
	if err == nil {
		s.Neighbors, err = k.neighbors(ctx)
	}
	if err != nil {
		return s, fmt.Errorf("reading the network namespace: %w", err)
	}
	return s, nil
}
