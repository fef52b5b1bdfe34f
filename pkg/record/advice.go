package record

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Advise adds to an error of writing in the directory what to do about it, where that
// is known.
func (d Dir) Advise(err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w; the state directory %q is read-only: mount an emptyDir volume there, or name another by --state-dir", err, d)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w; the state directory %q is full: free space there, or let its volume be larger (sizeLimit)", err, d)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; the state directory %q is another user's: run this as that user, or name another by --state-dir", err, d)
	}
	return err
}
