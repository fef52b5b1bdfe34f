package serve

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
)

// socketMode lets the group of the directory ask how the server does: where a pod's
// fsGroup shares the state directory with the VM's container, its status is for that
// one, too. What changes something is for the server's own user and for root.
const socketMode = 0o660

// bindSocket binds a socket that has its mode from the start. To change that of the path
// afterwards would be to change whatever somebody has put there meanwhile.
func bindSocket(path string) (net.Listener, error) {
	mode := func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), socketMode) })
		if err == nil {
			err = cerr
		}
		return err
	}
	// Which bind(2) still takes off that mode.
	defer syscall.Umask(syscall.Umask(0o007))
	l, err := (&net.ListenConfig{Control: mode}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	return l, nil
}

// mayAsk refuses what is not for whoever is at the other end.
func mayAsk(conn net.Conn, op Op) error {
	if op == OpStatus {
		return nil
	}
	uid, err := peerOf(conn)
	if err == nil && uid != 0 && uid != os.Geteuid() {
		err = fmt.Errorf("%q is not for user %d: want root, or user %d", string(op), uid, os.Geteuid())
	}
	return err
}

// peerOf is the user who opened the connection, as the kernel says.
func peerOf(conn net.Conn) (uid int, err error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return -1, fmt.Errorf("asking who asks: not a Unix socket")
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("asking who asks: %w", err)
	}
	var who *syscall.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		who, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err == nil {
		err = cerr
	}
	if err != nil {
		return -1, fmt.Errorf("asking who asks: %w", err)
	}
	return int(who.Uid), nil
}
