//go:build cgo && libvirt_dlopen

package launcher

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"libvirt.org/go/libvirt"
)

const (
	// A daemon that is silent for keepAlive times keepAliveCount seconds is gone.
	keepAlive      = 5
	keepAliveCount = 3
	// backlog is how many events wait for the launcher while it is busy.
	backlog = 64
)

// eventLoop is libvirt's own, of which a process has one, and which must be
// there before the first connection.
var eventLoop = sync.OnceValue(func() error {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return fmt.Errorf("%w: %w", errNoLibrary, plain(err))
	}
	go func() {
		for {
			if err := libvirt.EventRunDefaultImpl(); err != nil {
				time.Sleep(time.Second)
			}
		}
	}()
	return nil
})

// connection is a hypervisor that is libvirt.
type connection struct {
	virt     *libvirt.Connect
	occurred chan event
	gone     chan struct{}
	closing  chan struct{}
	lose     func()
	shut     func()

	mu        sync.RWMutex // held for reading by a call
	closed    bool
	callbacks []int
}

func dial(uri string) (hypervisor, error) {
	if err := eventLoop(); err != nil {
		return nil, err
	}
	virt, err := libvirt.NewConnect(uri)
	if err != nil {
		return nil, plain(err)
	}
	c := &connection{
		virt: virt, occurred: make(chan event, backlog),
		gone: make(chan struct{}), closing: make(chan struct{}),
	}
	c.lose = sync.OnceFunc(func() { close(c.gone) })
	c.shut = sync.OnceFunc(func() { close(c.closing) })
	if err := c.listen(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// listen registers for events of all domains, so that none of one that is yet to
// be made is missed.
func (c *connection) listen() error {
	// Drivers within this process (test, embed) cannot be lost and refuse both.
	_ = c.virt.RegisterCloseCallback(func(*libvirt.Connect, libvirt.ConnectCloseReason) { c.lose() })
	_ = c.virt.SetKeepAlive(keepAlive, keepAliveCount)
	registrations := []func() (int, error){
		func() (int, error) {
			return c.virt.DomainEventLifecycleRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, e *libvirt.DomainEventLifecycle) {
				c.tell(d, lifecycle(e))
			})
		},
		func() (int, error) {
			return c.virt.DomainEventRebootRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain) {
				c.tell(d, event{what: "rebooted"})
			})
		},
		func() (int, error) {
			return c.virt.DomainEventIOErrorReasonRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, e *libvirt.DomainEventIOErrorReason) {
				c.tell(d, ioError(e))
			})
		},
	}
	for _, register := range registrations {
		id, err := register()
		if err != nil {
			return fmt.Errorf("listening for libvirt's events: %w", plain(err))
		}
		c.callbacks = append(c.callbacks, id)
	}
	return nil
}

// tell runs on libvirt's event loop, which must not wait for ever.
func (c *connection) tell(d *libvirt.Domain, e event) {
	name, err := d.GetName()
	if err != nil {
		return
	}
	e.domain = name
	select {
	case c.occurred <- e:
	case <-c.closing:
	}
}

func (c *connection) events() <-chan event  { return c.occurred }
func (c *connection) lost() <-chan struct{} { return c.gone }

var errClosed = errors.New("the connection to libvirt is closed")

// call keeps the connection open while f uses it: libvirt frees it otherwise.
func (c *connection) call(f func() error) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return errClosed
	}
	return plain(f())
}

// withDomain is call for what needs a domain.
func (c *connection) withDomain(name string, f func(*libvirt.Domain) error) error {
	return c.call(func() error {
		d, err := c.virt.LookupDomainByName(name)
		if errors.Is(err, libvirt.ERR_NO_DOMAIN) {
			return errNoDomain
		}
		if err != nil {
			return err
		}
		defer func() { _ = d.Free() }()
		err = f(d)
		if errors.Is(err, libvirt.ERR_NO_DOMAIN) {
			// It ended in between.
			return errNoDomain
		}
		return err
	})
}

func (c *connection) find(name string) (machine, error) {
	var m machine
	err := c.withDomain(name, func(d *libvirt.Domain) (err error) {
		if m.uuid, err = d.GetUUIDString(); err != nil {
			return err
		}
		if m.active, err = d.IsActive(); err != nil || m.active {
			return err
		}
		_, reason, err := d.GetState()
		m.end = shutoff[libvirt.DomainShutoffReason(reason)]
		return err
	})
	return m, err
}

// start starts a transient domain. It is not destroyed with the connection, so
// that a launcher can be restarted under it.
func (c *connection) start(text string) error {
	return c.call(func() error {
		d, err := c.virt.DomainCreateXML(text, libvirt.DOMAIN_NONE)
		if err != nil {
			return err
		}
		return d.Free()
	})
}

func (c *connection) shutdown(name string, first bool) error {
	return c.withDomain(name, func(d *libvirt.Domain) error {
		if !first {
			err := d.ShutdownFlags(libvirt.DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
			if !errors.Is(err, libvirt.ERR_NO_SUPPORT) && !errors.Is(err, libvirt.ERR_INVALID_ARG) {
				return err
			}
		}
		return d.Shutdown()
	})
}

func (c *connection) destroy(name string, force bool) error {
	return c.withDomain(name, func(d *libvirt.Domain) error {
		if force {
			return d.Destroy()
		}
		return d.DestroyFlags(libvirt.DOMAIN_DESTROY_GRACEFUL)
	})
}

// close lets the calls under way end first, and does not wait for them.
func (c *connection) close() {
	c.shut()
	go func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed {
			return
		}
		c.closed = true
		// Each callback holds a reference, so that Close alone would not close.
		for _, id := range c.callbacks {
			_ = c.virt.DomainEventDeregister(id)
		}
		_ = c.virt.UnregisterCloseCallback()
		_, _ = c.virt.Close()
	}()
}

// virtError is libvirt's error, in libvirt's words alone.
type virtError struct{ cause libvirt.Error }

func (e virtError) Error() string { return strings.TrimSpace(e.cause.Message) }
func (e virtError) Unwrap() error { return e.cause }

func plain(err error) error {
	if e, ok := errors.AsType[libvirt.Error](err); ok && e.Message != "" {
		return virtError{e}
	}
	return err
}
