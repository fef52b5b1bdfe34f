//go:build cgo && libvirt_dlopen

package launcher

import "libvirt.org/go/libvirt"

// A stopped domain's details, and what libvirt remembers of one that is defined,
// have the same meanings and different numbers.
var (
	stopped = map[libvirt.DomainEventStoppedDetailType]ending{
		libvirt.DOMAIN_EVENT_STOPPED_SHUTDOWN:      endShutdown,
		libvirt.DOMAIN_EVENT_STOPPED_DESTROYED:     endDestroyed,
		libvirt.DOMAIN_EVENT_STOPPED_CRASHED:       endCrashed,
		libvirt.DOMAIN_EVENT_STOPPED_MIGRATED:      endMigrated,
		libvirt.DOMAIN_EVENT_STOPPED_SAVED:         endSaved,
		libvirt.DOMAIN_EVENT_STOPPED_FAILED:        endFailed,
		libvirt.DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT: endReverted,
	}
	shutoff = map[libvirt.DomainShutoffReason]ending{
		libvirt.DOMAIN_SHUTOFF_SHUTDOWN:      endShutdown,
		libvirt.DOMAIN_SHUTOFF_DESTROYED:     endDestroyed,
		libvirt.DOMAIN_SHUTOFF_CRASHED:       endCrashed,
		libvirt.DOMAIN_SHUTOFF_MIGRATED:      endMigrated,
		libvirt.DOMAIN_SHUTOFF_SAVED:         endSaved,
		libvirt.DOMAIN_SHUTOFF_FAILED:        endFailed,
		libvirt.DOMAIN_SHUTOFF_FROM_SNAPSHOT: endReverted,
		// The daemon came back and did not find the process any more.
		libvirt.DOMAIN_SHUTOFF_DAEMON: endUnknown,
	}
)

var suspended = map[libvirt.DomainEventSuspendedDetailType]event{
	libvirt.DOMAIN_EVENT_SUSPENDED_PAUSED:          {why: "paused"},
	libvirt.DOMAIN_EVENT_SUSPENDED_MIGRATED:        {why: "migration"},
	libvirt.DOMAIN_EVENT_SUSPENDED_IOERROR:         {why: "I/O error", bad: true},
	libvirt.DOMAIN_EVENT_SUSPENDED_WATCHDOG:        {why: "watchdog", bad: true},
	libvirt.DOMAIN_EVENT_SUSPENDED_RESTORED:        {why: "restored"},
	libvirt.DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT:   {why: "snapshot"},
	libvirt.DOMAIN_EVENT_SUSPENDED_API_ERROR:       {why: "libvirt error", bad: true},
	libvirt.DOMAIN_EVENT_SUSPENDED_POSTCOPY:        {why: "post-copy migration"},
	libvirt.DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED: {why: "failed post-copy migration", bad: true},
	libvirt.DOMAIN_EVENT_SUSPENDED_GUEST_SHUTDOWN:  {why: "guest shutdown"},
}

var shutdowns = map[libvirt.DomainEventShutdownDetailType]string{
	libvirt.DOMAIN_EVENT_SHUTDOWN_GUEST: "by the guest",
	libvirt.DOMAIN_EVENT_SHUTDOWN_HOST:  "by the host",
}

// lifecycle puts libvirt's numbers into words.
func lifecycle(e *libvirt.DomainEventLifecycle) event {
	switch e.Event {
	case libvirt.DOMAIN_EVENT_DEFINED:
		return event{what: "defined"}
	case libvirt.DOMAIN_EVENT_UNDEFINED:
		return event{what: "undefined"}
	case libvirt.DOMAIN_EVENT_STARTED:
		return event{what: "started"}
	case libvirt.DOMAIN_EVENT_SUSPENDED:
		out := suspended[libvirt.DomainEventSuspendedDetailType(e.Detail)]
		out.what = "suspended"
		return out
	case libvirt.DOMAIN_EVENT_RESUMED:
		return event{what: "resumed"}
	case libvirt.DOMAIN_EVENT_SHUTDOWN:
		return event{what: "shut down", why: shutdowns[libvirt.DomainEventShutdownDetailType(e.Detail)]}
	case libvirt.DOMAIN_EVENT_PMSUSPENDED:
		return event{what: "asleep"}
	case libvirt.DOMAIN_EVENT_CRASHED:
		// What comes of it is on_crash's to say: a stop, a reboot, or nothing.
		return event{what: "crashed", why: "the guest's kernel panicked", bad: true}
	case libvirt.DOMAIN_EVENT_STOPPED:
		return stop(libvirt.DomainEventStoppedDetailType(e.Detail))
	default:
		return event{what: "unknown"}
	}
}

func stop(detail libvirt.DomainEventStoppedDetailType) event {
	if detail == libvirt.DOMAIN_EVENT_STOPPED_RECREATED {
		// A reboot that takes a new process; the domain goes on.
		return event{what: "recreated"}
	}
	end, known := stopped[detail]
	if !known {
		end = endUnknown
	}
	return event{what: "stopped", why: end.String(), end: end, bad: end != endShutdown && end != endMigrated}
}

func ioError(e *libvirt.DomainEventIOErrorReason) event {
	action := map[libvirt.DomainEventIOErrorAction]string{
		libvirt.DOMAIN_EVENT_IO_ERROR_NONE:   "ignored",
		libvirt.DOMAIN_EVENT_IO_ERROR_PAUSE:  "the guest is paused",
		libvirt.DOMAIN_EVENT_IO_ERROR_REPORT: "reported to the guest",
	}[e.Action]
	why := e.DevAlias + " (" + e.SrcPath + "): " + action
	if e.Reason != "" {
		why += ": " + e.Reason
	}
	return event{what: "I/O error", why: why, bad: true}
}
