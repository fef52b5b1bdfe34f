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
	"slices"
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

// ErrDamaged says that a state file is there and cannot be used.
var ErrDamaged = errors.New("the state file is damaged")

// maxSize bounds what is read: the record of a pod with thousands of routes stays
// far below.
const maxSize = 16 << 20

// fileMode lets the group of the directory read the state, which holds no secret:
// where a pod's fsGroup gives a shared directory to the group of its VM's
// container, that container finds its tap and MAC without any capability. In a
// directory of root's own the group is root's.
const fileMode = 0o640

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

// Create makes the directory, which only its owner may enter.
func (d Dir) Create() error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("creating the state directory: %w", err)
	}
	return nil
}

// Load reads the record of a pod interface. The error is fs.ErrNotExist where
// there is none, and ErrDamaged where it cannot be used.
func (d Dir) Load(podInterface string) (Record, error) {
	return load(d.Path(podInterface), podInterface)
}

func load(path, podInterface string) (Record, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Record{}, fmt.Errorf("reading the state: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxSize {
		return Record{}, fmt.Errorf("%w: %s is no state file of podwire's", ErrDamaged, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Record{}, fmt.Errorf("reading the state: %w", err)
	}
	r, err := decode(text)
	if err == nil {
		err = r.validate(podInterface)
	}
	if err != nil {
		return Record{}, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	return r, nil
}

func decode(text []byte) (Record, error) {
	var head struct{ Version int }
	if err := json.Unmarshal(text, &head); err != nil {
		return Record{}, err
	}
	if head.Version != Version {
		return Record{}, fmt.Errorf("version %d, want %d", head.Version, Version)
	}
	var r Record
	err := json.Unmarshal(text, &r)
	return r, err
}

// validate refuses a record whose steps would touch other links than the pod
// interface and podwire's own two: a file must not be a way to reach further.
func (r Record) validate(podInterface string) error {
	i := r.Interface
	switch {
	case i.PodInterface != podInterface:
		return fmt.Errorf("it is that of the interface %q", i.PodInterface)
	case !slices.Contains([]Phase{Recorded, Applied, Undoing}, r.Phase):
		return fmt.Errorf("unknown phase %q", r.Phase)
	case i.Tap != ownTap(i) || i.Bridge != "" && i.Bridge != plan.BridgeName(podInterface):
		return fmt.Errorf("it names links that are not podwire's")
	}
	for n, step := range r.Steps {
		if err := ownStep(step, i, r.Snapshot); err != nil {
			return fmt.Errorf("step %d (%s): %w", n, step.Kind(), err)
		}
	}
	return nil
}

// ownTap is what the hypervisor opens: a macvtap is that itself.
func ownTap(i plan.Interface) string {
	if i.Binding == config.Macvtap {
		return i.PodInterface
	}
	return plan.TapName(i.PodInterface)
}

func ownStep(step plan.Step, i plan.Interface, before netstate.Snapshot) error {
	own := []string{i.Tap, i.PodInterface}
	if i.Bridge != "" {
		own = append(own, i.Bridge)
	}
	ok := slices.Contains(own, step.On())
	switch s := step.(type) {
	case plan.CreateTap, plan.CreateBridge, plan.AddAddresses:
		ok = ok && step.On() != i.PodInterface
	case plan.AttachPort:
		ok = ok && s.Bridge == i.Bridge
	case plan.Redirect:
		ok = ok && slices.Contains(own, s.To)
	case plan.SetOption:
		// By another link of the pod answers for the guest may come. The name is part of
		// a path.
		_, ofPod := before.LinkByName(s.Link)
		ok = plan.KnownOption(s) && (ok || s.Link == plan.AllLinks || ofPod) && filepath.IsLocal(s.Link) && filepath.Base(s.Link) == s.Link
	case plan.Translate:
		ok = ok && s.Table == plan.TableName(i.PodInterface)
	}
	if !ok {
		return errors.New("it is about a link of somebody else's")
	}
	return nil
}

// Save writes a record whole: to a temporary file, synced, renamed over the old
// one, the directory synced. Either the old or the new record is there after a
// crash at any point.
func (d Dir) Save(r Record) error {
	r.Version = Version
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encoding the state: %w", err)
	}
	path := d.Path(r.Interface.PodInterface)
	temporary := path + ".tmp"
	err = writeSynced(temporary, append(text, '\n'))
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = removeIfThere(temporary) // the first error says more
		return fmt.Errorf("writing the state: %w", err)
	}
	return d.sync()
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
		return fmt.Errorf("removing the state: %w", err)
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
		return "", fmt.Errorf("setting a stale state aside: %w", err)
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
		if r, err := load(aside.Path, podInterface); err == nil {
			aside.NetNS = &r.Snapshot.NetNS
		}
		out = append(out, aside)
	}
	return out, nil
}

// List returns the pod interfaces that have a record, sorted; none where the
// directory does not exist.
func (d Dir) List() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the state directory: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".json"); ok {
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
