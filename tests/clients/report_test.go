package clients

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
)

// What stands in a cell of the table.
const (
	ok     = "ok"
	cannot = "-"
	failed = "FAILED"
)

// row is what one client of one family was told, by one binding.
type row struct {
	Client  string            `json:"client"`
	Version string            `json:"version"`
	Family  string            `json:"family"`
	Binding pod.Binding       `json:"binding"`
	Columns map[string]string `json:"columns"`
	Cannot  map[string]string `json:"cannot,omitempty"` // the reasons for each "-"
}

// table collects rows as they come.
type table struct {
	mu   sync.Mutex
	rows []*row
}

// add adds a row, of which nothing is known yet.
func (m *table) add(r *row) {
	r.Columns = map[string]string{}
	for _, column := range client.Columns {
		r.Columns[column] = failed
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows = append(m.rows, r)
}

// none says that a client cannot run here at all.
func (r *row) none(reason string) {
	r.Cannot = map[string]string{}
	for _, column := range client.Columns {
		r.Columns[column], r.Cannot[column] = cannot, reason
	}
}

// compare fills the row.
func (r *row) compare(t *testing.T, reasons map[string]string, want, told client.Told, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
		return
	}
	r.Cannot = reasons
	for _, column := range client.Columns {
		switch _, never := reasons[column]; {
		case never:
			r.Columns[column] = cannot
		case told[column] == want[column]:
			r.Columns[column] = ok
		default:
			t.Errorf("%s is %q, want %q", column, told[column], want[column])
		}
	}
}

// text is the table as it is printed, a line a client, family and binding.
func (m *table) text() string {
	var out strings.Builder
	line := func(name, family, binding, version string, cells func(column string) string) {
		fmt.Fprintf(&out, "%-17s %-6s %-10s", name, family, binding)
		for _, column := range client.Columns {
			fmt.Fprintf(&out, " %-8s", cells(column))
		}
		fmt.Fprintf(&out, " %s\n", version)
	}
	line("client", "family", "binding", "version", func(column string) string { return column })
	for _, each := range m.rows {
		line(each.Client, each.Family, string(each.Binding), each.Version, func(column string) string { return each.Columns[column] })
	}
	return out.String()
}

// report prints the table, and writes it and its data where PODWIRE_MATRIX_OUT says.
func (m *table) report(t *testing.T) {
	t.Helper()
	place := func(r *row) int { return slices.Index(pod.Bindings, r.Binding) }
	slices.SortFunc(m.rows, func(a, b *row) int {
		return cmp.Or(strings.Compare(a.Family, b.Family), strings.Compare(a.Client, b.Client), place(a)-place(b))
	})
	fmt.Print(m.text())
	dir := os.Getenv("PODWIRE_MATRIX_OUT")
	if dir == "" {
		return
	}
	data, err := json.MarshalIndent(m.rows, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"clients.json": append(data, '\n'), "clients.txt": []byte(m.text())} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Error(err)
		}
	}
}
