package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/podwire/podwire/pkg/cni"
)

const (
	// savedSuffix ends the name that a lone configuration is kept under while a list
	// stands in for it. Runtimes read .conf, .conflist and .json.
	savedSuffix = ".podwire-saved"
	newSuffix   = ".podwire-new"

	watchEvery = time.Second
	tryEvery   = 100 * time.Millisecond
	// tryFor is how long a file may be half-written, or away.
	tryFor = 3 * time.Second
)

// errNoConf says that the node's own network is not configured yet.
var errNoConf = errors.New("no network is configured: the node's CNI comes first")

// node is where a runtime finds its CNI plugins and their configuration.
type node struct {
	binDir  string
	confDir string
	entry   cni.Entry
	log     *slog.Logger
	seen    os.FileInfo // the program that was found to be this one
}

// install puts the program and the configuration there, in this order: nobody must
// call what is not there.
func (n *node) install(dryRun bool) (changed bool, err error) {
	program, err := n.installProgram(dryRun)
	if err != nil {
		return false, err
	}
	conf, err := n.installConf(dryRun)
	return program || conf, err
}

// soon does it, and bears with files that others are writing.
func soon(ctx context.Context, dryRun bool, do func(dryRun bool) (bool, error)) (changed bool, err error) {
	until := time.Now().Add(tryFor)
	for {
		changed, err = do(dryRun)
		passing := errors.Is(err, cni.ErrNotJSON) || notExist(err)
		if !passing || time.Now().After(until) {
			return changed, err
		}
		select {
		case <-ctx.Done():
			return changed, err
		case <-time.After(tryEvery):
		}
	}
}

// watch does it again whenever something is not as it should be, until ctx ends.
func (n *node) watch(ctx context.Context, do func(dryRun bool) (bool, error)) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	last := ""
	for {
		text := ""
		if _, err := do(false); err != nil {
			text = oneLine(err)
		}
		if text != "" && text != last {
			n.log.Warn("not done yet, trying again", "err", text)
		}
		last = text
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// installProgram copies this program. Where it is there already, nothing is
// touched: it may be running.
func (n *node) installProgram(dryRun bool) (bool, error) {
	path := filepath.Join(n.binDir, cni.PluginType)
	info, err := os.Stat(path)
	if err == nil && n.seen != nil && os.SameFile(info, n.seen) && info.ModTime().Equal(n.seen.ModTime()) && info.Size() == n.seen.Size() {
		return false, nil
	}
	// Also after the file was replaced on disk, it is this very program.
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return false, fmt.Errorf("reading this program: %w", err)
	}
	there, err := os.ReadFile(path)
	if err == nil && bytes.Equal(there, program) && info != nil && info.Mode().Perm()&0o111 != 0 {
		n.seen = info
		return false, nil
	}
	if dryRun {
		return true, nil
	}
	if err := replaceFile(path, program, 0o755, nil); err != nil {
		return false, fmt.Errorf("installing the plugin: %w", err)
	}
	n.log.Info("the plugin is installed", "path", path)
	return true, nil
}

// installConf puts the entry into the list that the runtime uses.
func (n *node) installConf(dryRun bool) (bool, error) {
	names, err := n.confs()
	if err != nil {
		return false, err
	}
	if len(names) == 0 {
		return false, fmt.Errorf("%s: %w", n.confDir, errNoConf)
	}
	path := filepath.Join(n.confDir, names[0])
	if filepath.Ext(path) != ".conflist" {
		return n.installLone(path, names, dryRun)
	}
	return n.edit(path, dryRun, func(text []byte) ([]byte, error) { return cni.Add(text, n.entry) })
}

// installLone makes a list of a configuration that is none, and keeps it aside.
func (n *node) installLone(path string, names []string, dryRun bool) (bool, error) {
	if others := slices.DeleteFunc(names[1:], func(name string) bool { return name == filepath.Base(listFor(path)) }); len(others) > 0 {
		return false, fmt.Errorf("%s: the runtime uses this file, which is no list of plugins, and there are others: make a list (.conflist) of it, or remove it", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	list, err := cni.FromConf(text)
	if err == nil {
		list, err = cni.Add(list, n.entry)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w; make a list (.conflist) of it by hand", path, err)
	}
	if dryRun {
		return true, nil
	}
	to := listFor(path)
	if err := replaceFile(to, list, 0o644, nil); err != nil {
		return false, err
	}
	// Until here the runtime uses the one that was there, whose name comes first.
	if err := os.Rename(path, path+savedSuffix); err != nil {
		return false, errors.Join(err, os.Remove(to))
	}
	n.log.Info("the network's configuration is a list now, with podwire in it", "path", to)
	return true, nil
}

func listFor(path string) string { return path[:len(path)-len(filepath.Ext(path))] + ".conflist" }

// confs are the files that a runtime looks at, in its order.
func (n *node) confs() ([]string, error) {
	entries, err := os.ReadDir(n.confDir)
	if notExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name())) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// edit replaces a file by what change makes of it, if that is something else.
func (n *node) edit(path string, dryRun bool, change func([]byte) ([]byte, error)) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	changed, err := change(text)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	if bytes.Equal(text, changed) {
		return false, nil
	}
	if dryRun {
		return true, nil
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, text) {
		return false, fmt.Errorf("%s: %w: somebody else is writing it", path, cni.ErrNotJSON)
	}
	if err := replaceFile(path, changed, info.Mode().Perm(), info); err != nil {
		return false, err
	}
	n.log.Info("the network's configuration is changed", "path", path)
	return true, nil
}

// replaceFile writes a file whole: under another name, synced, renamed. The new one
// has the owner of the old, where one is given.
func replaceFile(path string, content []byte, mode fs.FileMode, old os.FileInfo) error {
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+newSuffix)
	if err := os.Remove(temporary); err != nil && !notExist(err) {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if st, ok := statOf(old); ok {
		_ = f.Chown(int(st.Uid), int(st.Gid)) // without CAP_CHOWN it is root's, as nearly always
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary) // the first error says more
	}
	return err
}

func statOf(info os.FileInfo) (*syscall.Stat_t, bool) {
	if info == nil {
		return nil, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return st, ok
}
