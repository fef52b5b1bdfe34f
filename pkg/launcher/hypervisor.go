package launcher

import "errors"

// hypervisor is a connection to libvirt: all that a domain's life needs of it,
// and what a test puts in its place. Domains go by their names. Its methods may
// be called at the same time, and may take long.
type hypervisor interface {
	// find returns what is known of a domain; errNoDomain where nothing is.
	find(name string) (machine, error)
	// start starts a transient domain.
	start(text string) error
	// shutdown asks the guest to shut down: the first time by whatever reaches it,
	// its agent foremost; then by the power button alone, as an agent that hangs
	// keeps libvirt waiting.
	shutdown(name string, first bool) error
	// destroy ends the machine: by SIGTERM, with which QEMU writes out its caches,
	// or, forced, by SIGKILL.
	destroy(name string, force bool) error
	// events tells what happens to any domain, from before the first call on.
	events() <-chan event
	// lost is closed when the connection is.
	lost() <-chan struct{}
	close()
}

// dialer connects to libvirt once.
type dialer func(uri string) (hypervisor, error)

// errNoDomain is find's for a name that libvirt does not know.
var errNoDomain = errors.New("no such domain")

// errNoLibrary is a dialer's that can never connect.
var errNoLibrary = errors.New("libvirt.so.0 cannot be loaded; the image needs libvirt's client library (libvirt0, libvirt-libs)")

// machine is a domain at one moment.
type machine struct {
	uuid   string // in lower case
	active bool
	end    ending // how it ended, where libvirt remembers
}

// event is something that happened to a domain.
type event struct {
	domain string
	what   string // in a word or two: "rebooted"
	why    string // may be empty
	bad    bool
	end    ending
}

// ending is how a domain ended.
type ending int

const (
	notEnded    ending = iota
	endShutdown        // the guest shut down
	endDestroyed
	endCrashed
	endMigrated
	endSaved
	endFailed
	endReverted // to a snapshot of a machine that was off
	endUnknown  // nobody saw it
)

func (e ending) String() string {
	return [...]string{
		"runs", "the guest shut down", "it was destroyed", "it crashed", "it moved to another host",
		"its state was saved", "the hypervisor failed", "it was reverted to a snapshot that does not run",
		"it ended, and libvirt does not know how",
	}[e]
}
