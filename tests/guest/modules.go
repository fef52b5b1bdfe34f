package guest

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// wanted is what the guest needs of its kernel: a network card on PCI, and the
// power button that a shutdown presses. The last two are arm64's.
var wanted = []string{"virtio_pci", "virtio_net", "button", "evdev", "gpio_pl061", "gpio_keys"}

// module is a kernel module, unpacked.
type module struct {
	name    string
	content []byte
}

// modules finds the wanted modules below a lib/modules/VERSION directory with
// all that they depend on, each after its dependencies. What is built into the
// kernel, or not made for this architecture, is left out. There is no
// modules.dep to ask: depmod writes it when a kernel is installed.
func modules(dir string) ([]module, error) {
	files, err := moduleFiles(dir)
	if err != nil {
		return nil, err
	}
	var order []module
	seen := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		file, ok := files[name]
		if seen[name] || !ok {
			return nil
		}
		seen[name] = true
		content, err := unpack(file)
		if err != nil {
			return err
		}
		depends, err := dependencies(content)
		if err != nil {
			return fmt.Errorf("reading module %q: %w", file, err)
		}
		for _, each := range depends {
			if err := visit(each); err != nil {
				return err
			}
		}
		order = append(order, module{name: name, content: content})
		return nil
	}
	for _, name := range wanted {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// moduleFiles maps the names of modules to their files. A file may have - where
// the module has _.
func moduleFiles(dir string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if name, _, ok := strings.Cut(entry.Name(), ".ko"); ok {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return nil
	})
	return files, err
}

// unpack reads a module that may be compressed, in one of the ways that a
// kernel's modules_install knows.
func unpack(path string) ([]byte, error) {
	packed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r io.Reader = bytes.NewReader(packed)
	switch filepath.Ext(path) {
	case ".xz":
		r, err = xz.NewReader(r)
	case ".zst":
		r, err = zstd.NewReader(r)
	case ".gz":
		r, err = gzip.NewReader(r)
	}
	if err != nil {
		return nil, fmt.Errorf("unpacking module %q: %w", path, err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("unpacking module %q: %w", path, err)
	}
	return content, nil
}

// dependencies reads the names of the modules that a module needs from its own
// .modinfo section, where "depends=a,b" is one of the strings.
func dependencies(content []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for _, field := range strings.Split(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(strings.ReplaceAll(list, "-", "_"), ","), nil
		}
	}
	return nil, nil
}
