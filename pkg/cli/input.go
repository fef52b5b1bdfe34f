package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// The most that is read of what somebody gives, in octets, far above what any of it
// needs: none of it can fill the memory.
const (
	maxDomain     = 4 << 20
	maxResolvConf = 256 << 10
	maxNetworks   = 1 << 20
)

func readUpTo(in io.Reader, most int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("it is longer than %d octets", most)
	}
	return text, err
}

// readFile reads a file that the command line names. It may be a pipe, which is
// waited for. The error does not repeat the name.
func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	text, err := readUpTo(f, most)
	return text, withoutPath(err)
}

// readThere is readFile for a file that is read while others wait: it must not be one
// that has to be waited for in turn.
func readThere(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	if info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket) != 0 {
		return nil, errors.New("it is a pipe or a socket, not a file")
	}
	return readFile(path, most)
}

// lastRead are files as they were when they could be read. A server takes one that it
// cannot read any more, for want of privileges or for a moment, to be as it was, and not to
// be empty: a guest that runs is not told of nothing.
type lastRead struct {
	mu     sync.Mutex
	texts  map[string][]byte
	failed map[string]bool
}

// read reads a file. Of the first time that it is not to be read any more, stale is told.
func (r *lastRead) read(path string, most int64, stale func(error)) ([]byte, error) {
	text, err := readThere(path, most)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.texts == nil {
		r.texts, r.failed = map[string][]byte{}, map[string]bool{}
	}
	was, known := r.texts[path]
	again := r.failed[path]
	r.failed[path] = err != nil
	switch {
	case err == nil:
		r.texts[path] = text
	case known:
		if !again {
			stale(err)
		}
		return was, nil
	}
	return text, err
}

func withoutPath(err error) error {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}
