package cli

import (
	"io"
	"os"
)

// maxLog is how long the log of a detached server may grow, in octets. The state directory
// is mostly the pod's memory, and what the guest asks for is logged.
const maxLog = 4 << 20

// logOf is where a process logs to. The log of a detached server, which is a file that
// nobody else looks after, starts anew when it is full.
func logOf(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok && os.Getenv(lockedEnv) != "" {
		return boundedLog{f}
	}
	return w
}

// boundedLog is a file that is appended to.
type boundedLog struct{ file *os.File }

func (l boundedLog) Write(p []byte) (int, error) {
	if info, err := l.file.Stat(); err == nil && info.Mode().IsRegular() && info.Size() >= maxLog {
		_ = l.file.Truncate(0) // what cannot be cut is still better written
	}
	return l.file.Write(p)
}
