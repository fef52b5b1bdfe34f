package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/podwire/podwire/pkg/cni"
)

// uninstall takes out what install put there, in the reverse order.
func (n *node) uninstall(dryRun bool) (changed bool, err error) {
	if err := n.exists(); err != nil {
		return false, err
	}
	names, err := n.confs()
	if err != nil {
		return false, err
	}
	for _, name := range names {
		path := filepath.Join(n.confDir, name)
		if filepath.Ext(path) != ".conflist" {
			continue
		}
		out, err := n.uninstallConf(path, dryRun)
		if err != nil {
			return changed, err
		}
		changed = changed || out
	}
	program, err := n.uninstallProgram(dryRun)
	return changed || program, err
}

// exists is an error where there is nothing of a node: podwire was not taken from
// where nobody looked.
func (n *node) exists() error {
	for _, dir := range []string{n.binDir, n.confDir} {
		if _, err := os.Stat(dir); !notExist(err) {
			return err
		}
	}
	return fmt.Errorf("nothing was looked at: neither %s nor %s exists; --bin-dir and --conf-dir say where this node has them", n.binDir, n.confDir)
}

func (n *node) uninstallProgram(dryRun bool) (bool, error) {
	path := filepath.Join(n.binDir, cni.PluginType)
	if _, err := os.Lstat(path); notExist(err) || dryRun {
		return err == nil, nil
	}
	if err := os.Remove(path); err != nil {
		return false, fmt.Errorf("removing the plugin: %w", err)
	}
	n.log.Info("the plugin is removed", "path", path)
	return true, nil
}

// uninstallConf takes podwire out of a list, or the list away that install made of a
// lone configuration, and puts that back. A list that has been changed since is worth
// more than what it once was.
func (n *node) uninstallConf(path string, dryRun bool) (bool, error) {
	saved, lone := savedFor(path)
	if saved == "" {
		return n.edit(path, dryRun, cni.Remove)
	}
	same, err := madeOf(path, saved)
	if err != nil {
		return false, err
	}
	if _, err := os.Lstat(lone); same && notExist(err) {
		return true, n.restoreLone(path, saved, lone, dryRun)
	}
	changed, err := n.edit(path, dryRun, cni.Remove)
	if changed && !dryRun && err == nil {
		n.log.Warn("the configuration that podwire found here was changed since; it is left as it is now, and what it was is kept beside it: remove that by hand",
			"path", path, "saved", saved)
	}
	return changed, err
}

// savedFor returns the lone configuration that a list may stand in for, and what it
// was called; both are empty where there is none.
func savedFor(list string) (saved, lone string) {
	base := list[:len(list)-len(filepath.Ext(list))]
	for _, ext := range []string{".conf", ".json"} {
		if _, err := os.Lstat(base + ext + savedSuffix); err == nil {
			return base + ext + savedSuffix, base + ext
		}
	}
	return "", ""
}

// madeOf reports whether a list is what install makes of a lone configuration, but
// for what podwire's own entry says.
func madeOf(list, saved string) (bool, error) {
	text, err := os.ReadFile(list)
	if err != nil {
		return false, err
	}
	bare, err := cni.Remove(text)
	if err != nil {
		return false, fmt.Errorf("%s: %w", list, err)
	}
	was, err := os.ReadFile(saved)
	if err != nil {
		return false, err
	}
	made, err := cni.FromConf(was)
	return err == nil && bytes.Equal(bare, made), nil // what no list can be made of is something else
}

// restoreLone puts back the configuration that a list of podwire's stands in for. The
// runtime uses the first of them, which it is at once.
func (n *node) restoreLone(list, saved, lone string, dryRun bool) error {
	if dryRun {
		return nil
	}
	if err := os.Rename(saved, lone); err != nil {
		return err
	}
	n.log.Info("the network's configuration is as it was", "path", lone)
	return os.Remove(list)
}

// errLeft says that not all is gone.
var errLeft = errors.New("the plugin is still here")
