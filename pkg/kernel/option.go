//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// inetOptions are the numbers that a link's IPv4 options have in netlink:
// IPV4_DEVCONF_* of linux/ip.h.
var inetOptions = map[string]uint16{plan.OptionForwarding: 1, plan.OptionLocalnet: 26}

// inet6AcceptRA is the place of accept_ra among a link's IPv6 options:
// DEVCONF_ACCEPT_RA of linux/ipv6.h.
const inet6AcceptRA = 3

// option is one option, wherever it is kept. The value of one whose link is gone
// is errLinkGone.
type option interface {
	get(ctx context.Context) (int, error)
	set(ctx context.Context, value int) error
}

func (k *Kernel) optionOf(s plan.SetOption) (option, error) {
	if s.IPv6 {
		return sysctl{k, s}, nil
	}
	number, ok := inetOptions[s.Option]
	if !ok || s.Link == plan.AllLinks {
		return nil, errors.ErrUnsupported
	}
	return linkOption{k, s.Link, number}, nil
}

func (k *Kernel) setOption(ctx context.Context, s plan.SetOption) error {
	if err := k.changeOption(ctx, s, s.Value, nil); err != nil {
		return fmt.Errorf("setting %s to %d: %w", sysctlName(s), s.Value, err)
	}
	return nil
}

// unsetOption sets the option to what it was, unless somebody has set it since,
// or the link is gone and the option with it. While the guest of another interface is
// translated it stays: the last one sets it back.
func (k *Kernel) unsetOption(ctx context.Context, s plan.SetOption) error {
	tables, err := k.tables(ctx)
	if err == nil && len(tables) == 0 {
		err = k.changeOption(ctx, s, s.Was, &s.Value)
	}
	if err != nil && !errors.Is(err, errLinkGone) {
		return fmt.Errorf("setting %s to %d: %w", sysctlName(s), s.Was, err)
	}
	return nil
}

// changeOption sets the option where it has another value; only if that is from,
// where from is set.
func (k *Kernel) changeOption(ctx context.Context, s plan.SetOption, to int, from *int) error {
	o, err := k.optionOf(s)
	if err != nil {
		return err
	}
	has, err := o.get(ctx)
	if err != nil || has == to || from != nil && has != *from {
		return err
	}
	return o.set(ctx, to)
}

// linkOption is an IPv4 option of a link. It is set by netlink, which takes
// CAP_NET_ADMIN alone: /proc/sys is read-only in a container without privileges.
type linkOption struct {
	k      *Kernel
	link   string
	number uint16
}

func (o linkOption) get(ctx context.Context) (int, error) {
	l, err := o.k.link(ctx, o.link)
	return l.inet.option(o.number - 1), err
}

func (o linkOption) set(ctx context.Context, value int) error {
	l, err := o.k.link(ctx, o.link)
	if err != nil {
		return err
	}
	return o.k.setLink(ctx, l.Index, func(m *message) {
		m.nest(unix.IFLA_AF_SPEC, func(m *message) {
			m.nest(unix.AF_INET, func(m *message) {
				m.nest(unix.IFLA_INET_CONF, func(m *message) { m.u32(o.number, uint32(value)) })
			})
		})
	})
}

// option is one of the numbers of IFLA_INET_CONF, which begin with that of number
// 1, or of IFLA_INET6_CONF, which begin with number 0. One that this kernel has
// not is 0.
func (a attribute) option(place uint16) int {
	if from := 4 * int(place); from+4 <= len(a.data) {
		return int(int32(binary.NativeEndian.Uint32(a.data[from:])))
	}
	return 0
}

// sysctl is an option that netlink does not set. The files are those of the
// namespace that the calling thread is in.
type sysctl struct {
	k *Kernel
	s plan.SetOption
}

func (o sysctl) path() string { return sysctls6 + o.s.Link + "/" + o.s.Option }

const sysctls6 = "/proc/sys/net/ipv6/conf/"

func (o sysctl) get(context.Context) (value int, err error) {
	err = o.k.netns.do(func() error {
		value, err = readSysctl(o.path())
		return err
	})
	if errors.Is(err, unix.ENOENT) && o.s.Link != plan.AllLinks {
		return 0, gone(o.s.Link)
	}
	return value, err
}

func (o sysctl) set(_ context.Context, value int) error {
	err := o.k.netns.do(func() error {
		f, err := os.OpenFile(o.path(), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(strconv.Itoa(value))
		return errors.Join(err, f.Close())
	})
	switch {
	case isErrno(err, unix.EROFS):
		return &readOnlyError{o.s, err}
	case isErrno(err, unix.EACCES): // a file of the owner's, who has NET_ADMIN
		return fmt.Errorf("%w: %s", err, lacking("NET_ADMIN"))
	}
	return err
}

func readSysctl(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// readOnlyError is an option that cannot be set in this container.
type readOnlyError struct {
	s   plan.SetOption
	err error
}

func (e *readOnlyError) Error() string { return e.err.Error() + ": " + insteadOf(e.s) }

func (e *readOnlyError) Unwrap() error { return e.err }

// insteadOf says what to do where an option cannot be set.
func insteadOf(s plan.SetOption) string {
	return "give the pod " + sysctlLine(s) + "; or the guest no IPv6 (--vm-ipv6-network-cidr none);" +
		" or wire the pod by the chained CNI plugin, which sets it from the node"
}

// sysctlLine is the pod spec that sets an option. It is set before the pod has its
// links: what they are to begin with is their default's.
func sysctlLine(s plan.SetOption) string {
	var names, list []string
	add := func(name string, value int) {
		names = append(names, name)
		list = append(list, fmt.Sprintf("{name: %s, value: %q}", name, strconv.Itoa(value)))
	}
	if s.Link != plan.AllLinks {
		// A link takes no advertisements any more where it forwards, and is to.
		add("net.ipv6.conf.default."+s.Option, s.Value)
		s = forwarding6
	}
	add(sysctlName(s), s.Value)
	return fmt.Sprintf("securityContext: {sysctls: [%s]}, which the node's kubelet takes with --allowed-unsafe-sysctls=%s",
		strings.Join(list, ", "), strings.Join(names, ","))
}

// forwarding6 lets the namespace forward IPv6.
var forwarding6 = plan.SetOption{IPv6: true, Link: plan.AllLinks, Option: plan.OptionForwarding, Value: 1}

// sysctlName is the option as sysctl(8) has it. A dot in a link's name is a slash
// there.
func sysctlName(s plan.SetOption) string {
	family := "ipv4"
	if s.IPv6 {
		family = "ipv6"
	}
	return fmt.Sprintf("net.%s.conf.%s.%s", family, strings.ReplaceAll(s.Link, ".", "/"), s.Option)
}

// Attributes and values of linux/netconf.h that x/sys/unix has no names for.
const (
	netconfIfindex    = 1  // NETCONFA_IFINDEX
	netconfForwarding = 2  // NETCONFA_FORWARDING
	netconfAll        = -1 // NETCONFA_IFINDEX_ALL
	sizeofNetconfmsg  = 4  // struct netconfmsg, with what fills it up
)

// forwards6 reports whether the namespace forwards IPv6. By netlink it is known
// also where there is no /proc.
func (k *Kernel) forwards6(ctx context.Context) (bool, error) {
	index := int32(netconfAll)
	m := newMessage([]byte{unix.AF_INET6, 0, 0, 0}).u32(netconfIfindex, uint32(index))
	msg, err := k.route.get(ctx, unix.RTM_GETNETCONF, m)
	if isErrno(err, unix.EOPNOTSUPP, unix.EAFNOSUPPORT) {
		return false, nil // a kernel without IPv6
	}
	if err != nil {
		return false, fmt.Errorf("reading whether IPv6 is forwarded: %w", err)
	}
	_, attrs, err := split(msg, sizeofNetconfmsg)
	for _, a := range attrs {
		if a.kind == netconfForwarding {
			return a.u32() != 0, nil
		}
	}
	return false, err
}
