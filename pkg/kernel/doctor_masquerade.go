//go:build linux

package kernel

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// natFeature is what the masquerade binding needs of the kernel beside a tap.
var natFeature = feature{"nftables translation (inet nat)", tryNAT, StatusWarn, "for --binding masquerade: " + natModules}

// tryNAT makes a table that has one of all that translates, for both families.
func tryNAT(ctx context.Context, k *Kernel) error {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	return k.putTable(ctx, plan.Translate{Link: "lo", Table: plan.TablePrefix + "doctor", Chains: []plan.Chain{
		{Name: "raw", Type: "filter", Hook: "prerouting", Priority: -300, Rules: []plan.Rule{{In: tryName, Do: plan.Drop}}},
		{Name: "arriving", Type: "nat", Hook: "prerouting", Priority: -95, Rules: []plan.Rule{{Do: plan.DNAT, To: v4}, {Do: plan.DNAT, To: v6}}},
		{Name: "local", Type: "nat", Hook: "output", Priority: -95, Rules: []plan.Rule{{MidStream: true, Do: plan.Return}}},
		{Name: "leaving", Type: "nat", Hook: "postrouting", Priority: 100, Rules: []plan.Rule{
			{Out: tryName, Do: plan.SNAT, To: v4}, {Out: tryName, Do: plan.SNAT, To: v6}, {Do: plan.MasqueradeIt},
		}},
	}})
}

// forwardingFinding looks whether an IPv6 guest can be masqueraded: IPv4 is
// forwarded by an option that netlink sets, IPv6 by one that only /proc/sys does.
func (k *Kernel) forwardingFinding(ctx context.Context) Finding {
	f := Finding{Name: "IPv6 forwarding", Status: StatusOK, Detail: "on"}
	on, err := k.forwards6(ctx)
	if err != nil {
		f.Status, f.Detail = StatusWarn, err.Error()
		return f
	}
	if on {
		return f
	}
	needed, err := k.hasGlobal6(ctx)
	if err != nil {
		f.Status, f.Detail = StatusWarn, err.Error()
		return f
	}
	if !needed {
		f.Detail = "off, and nothing to forward: the pod has no IPv6 address"
		return f
	}
	err = k.netns.do(func() error { return unix.Access(sysctl{k, forwarding6}.path(), unix.W_OK) })
	switch {
	case err == nil:
		f.Detail = "off; the masquerade binding turns it on"
	case errors.Is(err, unix.EROFS):
		f.Status, f.Fix = StatusWarn, insteadOf(forwarding6)
		f.Detail = "off, and /proc/sys is read-only: the masquerade binding cannot turn it on; the others do without"
	default:
		f.Status, f.Detail = StatusWarn, "off, and cannot be turned on: "+err.Error()
	}
	return f
}

// hasGlobal6 reports whether a link has an IPv6 address that a guest could be
// behind.
func (k *Kernel) hasGlobal6(ctx context.Context) (bool, error) {
	addrs, err := k.addrs(ctx)
	return slices.ContainsFunc(addrs, func(a netstate.Addr) bool { return a.Global() && a.Prefix.Addr().Is6() }), err
}
