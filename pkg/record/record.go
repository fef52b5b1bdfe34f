// Package record keeps what podwire did to a pod in a file, so that another
// process, or the same one after a crash, can finish it or take it back.
//
// A record is written whole and synced before the first destructive step: after
// the rewire the kernel no longer knows what the pod had. The package reads and
// writes files and nothing else; whether a record still fits the namespace is
// for its caller to compare.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// Version is that of the state file's form. A file of another version is
// refused: half-understood steps must not be undone.
//
// Within a version fields are added, never renamed or given another meaning. For
// the plugin on a node, the server in a pod and a program that was rolled back may be of
// different releases, and read each other's files: a field that one does not know it
// leaves alone. In the steps it is damage, as is a step of an unknown kind.
const Version = 1

// Phase is how far podwire got.
type Phase string

// The phases of a record.
const (
	Recorded Phase = "recorded" // the plan is on disk; any of its steps may be done
	Applied  Phase = "applied"  // all steps are done
	Undoing  Phase = "undoing"  // any of the steps may be undone
)

// Record is what podwire knows of one pod interface.
type Record struct {
	Version   int               `json:"version"`
	Phase     Phase             `json:"phase"`
	Config    config.Config     `json:"config"`
	Snapshot  netstate.Snapshot `json:"snapshot"` // before the first step
	Lease     lease.Lease       `json:"lease"`
	Interface plan.Interface    `json:"interface"`
	Steps     plan.Steps        `json:"steps"`
	Warnings  []string          `json:"warnings,omitempty"`
	Network   string            `json:"network,omitempty"`  // what the pod's network-status annotation calls it
	Position  int               `json:"position,omitempty"` // among the VM's interfaces, from 0
	// Failures is how many teardowns in a row could not put the pod back, where
	// somebody counts them.
	Failures int `json:"failures,omitempty"`
	// HostUnknown says that the pod was wired from outside, where its host name and
	// resolv.conf could not be seen: the lease lacks them, and what there is to warn
	// of is not known yet.
	HostUnknown bool `json:"hostUnknown,omitempty"`
}

// ErrDamaged says that a state file is there and cannot be used. Of two kinds of it the
// record is returned all the same.
var ErrDamaged = errors.New("the state file is damaged")

var (
	// ErrTheirs says that a state file is somebody else's, and holds a record that could
	// be: good to read, and not to act on.
	ErrTheirs = fmt.Errorf("%w", ErrDamaged)
	// ErrConfig says that today's rules refuse a setting in the record. To put the pod back
	// needs none; the error is also a *config.Error.
	ErrConfig = fmt.Errorf("%w", ErrDamaged)
)

// fileMode lets the group of the directory read the state, which holds no secret:
// where a pod's fsGroup gives a shared directory to the group of its VM's
// container, that container finds its tap and MAC without any capability. In a
// directory of root's own the group is root's.
const fileMode = 0o640

// maxName is IFNAMSIZ less its terminating zero.
const maxName = 15

// Dir is a state directory.
type Dir string

// Path is the state file of a pod interface.
func (d Dir) Path(podInterface string) string {
	return filepath.Join(string(d), podInterface+".json")
}

// Socket is where the server of a pod interface is spoken to.
func (d Dir) Socket(podInterface string) string {
	return filepath.Join(string(d), podInterface+".sock")
}

// Log is where a detached server writes its log.
func (d Dir) Log() string { return filepath.Join(string(d), "serve.log") }

// Create makes the directory, which only its owner may enter. One that is there may be
// somebody else's: Save says what may be kept in it.
func (d Dir) Create() error {
	if err := d.check(); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return d.Advise(fmt.Errorf("creating the state directory: %w", err))
	}
	return d.check()
}

// Load reads the record of a pod interface. The error is fs.ErrNotExist where
// there is none, ErrDamaged where it cannot be used, and ErrForeign where the
// directory cannot. That may be somebody else's, who could keep a record of root's or this
// user's from being found, but not make another.
func (d Dir) Load(podInterface string) (Record, error) {
	if err := d.check(); err != nil {
		return Record{}, fmt.Errorf("reading the state: %w", err)
	}
	return load(d.Path(podInterface), podInterface)
}

func load(path, podInterface string) (Record, error) {
	text, theirs, err := read(path)
	switch {
	case errors.Is(err, ErrDamaged):
		return Record{}, err
	case err != nil:
		return Record{}, fmt.Errorf("reading the state: %w", err)
	}
	r, err := decode(text)
	if err == nil {
		err = r.validate(podInterface)
	}
	if err != nil {
		return Record{}, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	switch err := r.Config.Validate(); {
	case theirs != nil && err != nil:
		return Record{}, theirs
	case theirs != nil:
		return r, theirs
	case err != nil:
		return r, fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
	}
	return r, nil
}

// Save writes a record whole: to a temporary file, synced, renamed over the old
// one, the directory synced. Either the old or the new record is there after a
// crash at any point. What Load would not take is refused, and so is a record of which
// there is none yet, in a directory that is somebody else's.
func (d Dir) Save(r Record) error {
	text, err := d.encode(r)
	if err != nil {
		return err
	}
	path := d.Path(r.Interface.PodInterface)
	temporary := path + ".tmp"
	err = writeSynced(temporary, text)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = removeIfThere(temporary) // the first error says more
		return d.Advise(fmt.Errorf("writing the state: %w", err))
	}
	return d.sync()
}

// encode is the text of a record that Load will take.
func (d Dir) encode(r Record) ([]byte, error) {
	r.Version = Version
	err := r.validate(r.Interface.PodInterface)
	if err == nil && r.Phase == Recorded { // what is done already must be written down anyhow
		err = r.Config.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("a state that could not be read again: %w", err)
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encoding the state: %w", err)
	}
	if text = append(text, '\n'); len(text) > maxSize {
		return nil, fmt.Errorf("the state would have %d octets, and %d are the most that is read again: the pod has too many routes (%d), addresses (%d) or links (%d)",
			len(text), maxSize, len(r.Snapshot.Routes), len(r.Snapshot.Addrs), len(r.Snapshot.Links))
	}
	return text, d.MayHold(r.Interface.PodInterface)
}

// writeSynced writes a new file; one that a crash left under that name is
// replaced, never written through.
func writeSynced(path string, text []byte) error {
	if err := removeIfThere(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Remove deletes the record of a pod interface, and what a crash left beside it;
// it is no error if there is none.
func (d Dir) Remove(podInterface string) error {
	path := d.Path(podInterface)
	if err := errors.Join(removeIfThere(path), removeIfThere(path+".tmp")); err != nil {
		return d.Advise(fmt.Errorf("removing the state: %w", err))
	}
	return d.sync()
}

// staleSuffix ends the name of a record that was set aside; a number may follow.
const staleSuffix = ".stale"

// SetAside moves a stale record away, where a person can still read it, and
// returns where. Those that were set aside before stay.
func (d Dir) SetAside(podInterface string) (string, error) {
	aside := d.Path(podInterface) + staleSuffix
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		}
		aside = fmt.Sprintf("%s%s%d", d.Path(podInterface), staleSuffix, n)
	}
	if err := os.Rename(d.Path(podInterface), aside); err != nil {
		return "", d.Advise(fmt.Errorf("setting a stale state aside: %w", err))
	}
	return aside, d.sync()
}

// Aside is a record that was set aside.
type Aside struct {
	Path  string
	NetNS *netstate.Identity // nil where it cannot be read
}

// Asides returns the records of a pod interface that were set aside; none where
// the directory does not exist.
func (d Dir) Asides(podInterface string) ([]Aside, error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the state directory: %w", err)
	}
	var out []Aside
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), podInterface+".json"+staleSuffix) {
			continue
		}
		aside := Aside{Path: filepath.Join(string(d), e.Name())}
		if r, err := load(aside.Path, podInterface); err == nil || errors.Is(err, ErrConfig) {
			aside.NetNS = &r.Snapshot.NetNS
		}
		out = append(out, aside)
	}
	return out, nil
}

// List returns the pod interfaces that have a record, sorted; none where the
// directory does not exist. A file that no interface can be the name of is none of
// podwire's.
func (d Dir) List() ([]string, error) { return d.names(".json") }

// Torn returns the pod interfaces of which a crash left a record half written, beside a
// whole one or alone. Remove removes it.
func (d Dir) Torn() ([]string, error) { return d.names(".json.tmp") }

// names are the interfaces that there is a file of.
func (d Dir) names(suffix string) ([]string, error) {
	err := d.check()
	var entries []os.DirEntry
	if err == nil {
		entries, err = os.ReadDir(string(d))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the state directory: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok && name != "" && len(name) <= maxName {
			names = append(names, name)
		}
	}
	return names, nil
}

func (d Dir) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return fmt.Errorf("syncing the state directory: %w", err)
	}
	return errors.Join(f.Sync(), f.Close())
}
