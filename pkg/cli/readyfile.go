package cli

import (
	"fmt"
	"os"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/kernel"
)

func (a *Agent) markReady() error {
	if a.config.ReadyFile == "" {
		return nil
	}
	if err := kernel.CreateEmpty(a.config.ReadyFile); err != nil {
		return fmt.Errorf("writing the ready file: %w", err)
	}
	return nil
}

// unmarkReady removes the ready file and nothing else: one of podwire's is empty, and
// what it would be a pity to lose is not.
func (a *Agent) unmarkReady() error {
	path := a.config.ReadyFile
	if path == "" {
		return nil
	}
	info, err := os.Lstat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > 0) {
		return &config.Error{Source: a.config.Source("ready-file"), Value: path, Want: "a path at which there is nothing, or an empty file"}
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil && !notExist(err) {
		return fmt.Errorf("removing the ready file: %w", err)
	}
	return nil
}
