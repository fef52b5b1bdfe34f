package record

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrForeign says that the state directory is not podwire's to use: it leads elsewhere, or
// is somebody else's.
var ErrForeign = errors.New("the state directory is not podwire's own")

// maxSize bounds what is read: the record of a pod with thousands of routes stays
// far below.
const maxSize = 16 << 20

// check refuses what is no directory, or that somebody else has made lead to one. That
// others may write in it is common: the containers of a pod share it, and a kubelet
// lets all of them write. So nothing in it is relied on either but by its owner, and
// nothing in it is followed.
func (d Dir) check() error {
	info, err := os.Lstat(string(d))
	if err != nil {
		return err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		if owner, own := ownerOf(info); !own {
			return fmt.Errorf("%w: %q is user %d's link: want a directory of this user's own, or of root's", ErrForeign, string(d), owner)
		}
		if info, err = os.Stat(string(d)); err != nil {
			return err
		}
	}
	if !info.IsDir() {
		return fmt.Errorf("%w: %q: want a directory", ErrForeign, string(d))
	}
	return nil
}

// MayHold refuses a new record in a directory that is somebody else's: he could take it
// away, and the pod could not be put back. One that is there is worth more than that.
func (d Dir) MayHold(podInterface string) error {
	info, err := os.Stat(string(d))
	if err != nil {
		return d.Advise(fmt.Errorf("writing the state: %w", err))
	}
	owner, own := ownerOf(info)
	if there, err := os.Lstat(d.Path(podInterface)); own || err == nil && usable(d.Path(podInterface), there) == nil {
		return nil
	}
	return fmt.Errorf("%w: %q is user %d's: want a directory of this user's own, or of root's: \"chown %d\" it, or name another by --state-dir",
		ErrForeign, string(d), owner, os.Geteuid())
}

// ownerOf also says whether what a file's owner wrote can be relied on: whoever root
// is, or this user, could do the same without podwire.
func ownerOf(info fs.FileInfo) (uid int, own bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, false
	}
	return int(st.Uid), st.Uid == 0 || int(st.Uid) == os.Geteuid()
}

// read returns what is in a state file: a plain file of one name alone, which
// is not followed to another, nor waited for. theirs is ErrTheirs where it is somebody else's.
func read(path string) (text []byte, theirs, err error) {
	before, err := os.Lstat(path) // to open a device may already do something
	if err == nil {
		err = usable(path, before)
	}
	if err != nil && !errors.Is(err, ErrTheirs) {
		return nil, nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		err = usable(path, info)
	}
	if errors.Is(err, ErrTheirs) {
		theirs, err = err, nil
	}
	if err != nil {
		return nil, nil, err
	}
	text, err = io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(text) > maxSize {
		err = tooLong(path)
	}
	return text, theirs, err
}

func usable(path string, info fs.FileInfo) error {
	owner, own := ownerOf(info)
	switch st, _ := info.Sys().(*syscall.Stat_t); {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s: %s: want a plain file", ErrDamaged, path, kindOf(info.Mode()))
	case st.Nlink > 1:
		return fmt.Errorf("%w: %s: %d names: want a file of one name", ErrDamaged, path, st.Nlink)
	case info.Size() > maxSize:
		return tooLong(path)
	case !own:
		return fmt.Errorf("%w: %s: user %d's: want this user's own, or root's", ErrTheirs, path, owner)
	}
	return nil
}

func tooLong(path string) error {
	return fmt.Errorf("%w: %s: want at most %d octets", ErrDamaged, path, maxSize)
}

func kindOf(m fs.FileMode) string {
	switch m.Type() {
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a named pipe"
	case fs.ModeSocket:
		return "a socket"
	case fs.ModeDir:
		return "a directory"
	default:
		return "a device"
	}
}
