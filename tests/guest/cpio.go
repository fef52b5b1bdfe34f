package guest

import (
	"bytes"
	"fmt"
	"io/fs"
)

// cpio writes the archive that Linux unpacks as its first root file system, in
// the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).
type cpio struct {
	buf   bytes.Buffer
	inode int
}

// The file types of st_mode, which the archive holds as Unix has them and
// fs.FileMode does not.
const (
	modeFile    = 0o100000
	modeDir     = 0o040000
	modeSymlink = 0o120000
)

// dir adds a directory.
func (c *cpio) dir(name string) { c.entry(name, modeDir|0o755, nil) }

// file adds a file with the given permissions.
func (c *cpio) file(name string, perm fs.FileMode, content []byte) {
	c.entry(name, modeFile|int(perm.Perm()), content)
}

// symlink adds a symbolic link.
func (c *cpio) symlink(name, target string) { c.entry(name, modeSymlink|0o777, []byte(target)) }

// finish ends the archive and returns it.
func (c *cpio) finish() []byte {
	c.entry("TRAILER!!!", 0, nil)
	return c.buf.Bytes()
}

// entry adds a header, the name and the content, the last two padded to four
// octets. Owner, times and devices are zero: the same files make the same image.
func (c *cpio) entry(name string, mode int, content []byte) {
	c.inode++
	fields := []int{c.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0}
	c.buf.WriteString("070701")
	for _, field := range fields {
		fmt.Fprintf(&c.buf, "%08X", field)
	}
	c.buf.WriteString(name)
	c.buf.WriteByte(0)
	c.pad()
	c.buf.Write(content)
	c.pad()
}

func (c *cpio) pad() {
	for c.buf.Len()%4 != 0 {
		c.buf.WriteByte(0)
	}
}
