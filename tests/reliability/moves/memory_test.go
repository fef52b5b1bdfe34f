package moves

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// memory is a control group for one process and its children, whose kernel memory
// is counted apart from all else on the machine.
type memory struct {
	dir   string
	usage string // the file with the octets of the kernel's own
	evict [2]string
}

// hierarchies are where the memory controller may be: of version 2, or of version 1.
var hierarchies = []memory{
	{dir: "/sys/fs/cgroup", usage: "memory.stat", evict: [2]string{"memory.reclaim", "1G"}},
	{dir: "/sys/fs/cgroup/memory", usage: "memory.kmem.usage_in_bytes", evict: [2]string{"memory.force_empty", "1"}},
}

// newMemory makes a group that is there until the test ends; nil where nobody may make
// groups, as in some containers.
func newMemory(t *testing.T) *memory {
	t.Helper()
	for _, m := range hierarchies {
		m.dir = filepath.Join(m.dir, fmt.Sprintf("podwire-moves-%d", os.Getpid()))
		if os.Mkdir(m.dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { m.remove(t) })
		if _, err := m.kernel(); err == nil {
			return &m
		}
	}
	t.Log("no control group can be made here: the kernel's memory is not measured")
	return nil
}

// hold moves a process into the group, which is to end before the test does.
func (m *memory) hold(t *testing.T, pid int) {
	t.Helper()
	if m == nil {
		return
	}
	if err := os.WriteFile(filepath.Join(m.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Fatal(err)
	}
}

// remove waits for the group's processes to end: they were told to.
func (m memory) remove(t *testing.T) {
	for until := time.Now().Add(5 * time.Second); ; {
		err := os.Remove(m.dir)
		if err == nil {
			return
		}
		if time.Now().After(until) {
			t.Errorf("removing the control group: %v", err)
			return
		}
		<-time.After(10 * time.Millisecond)
	}
}

// used is what the kernel uses for the group, without what it gives back when asked.
func (m *memory) used(t *testing.T) int {
	t.Helper()
	if m == nil {
		return 0
	}
	least := 0
	for i := range 5 {
		_ = os.WriteFile(filepath.Join(m.dir, m.evict[0]), []byte(m.evict[1]), 0) // as much as there is
		n, err := m.kernel()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 || n < least {
			least = n
		}
	}
	return least
}

// kernel reads the group's count of the kernel's memory.
func (m memory) kernel() (int, error) {
	text, err := os.ReadFile(filepath.Join(m.dir, m.usage))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) == 1 {
		return strconv.Atoi(fields[0])
	}
	for i, name := range fields[:max(0, len(fields)-1)] {
		if name == "kernel" {
			return strconv.Atoi(fields[i+1])
		}
	}
	return 0, errors.New("no count of the kernel's memory")
}
