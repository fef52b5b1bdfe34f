//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// testGuest has the guest say what it was told, and compares that with what the
// API says of its pod and what an ordinary pod on its node has.
func (v *vm) testGuest(t *testing.T) {
	near := v.near(v.pod.Spec.NodeName)
	v.hasAddresses(t)
	mtu := strings.TrimSpace(v.run(t, "cat /sys/class/net/eth0/mtu"))
	if want := v.mtu(t, near); mtu != want {
		t.Errorf("the guest's MTU is %s; that of an ordinary pod %s", mtu, want)
	}
	if want, ok := layouts[options.layout]; ok && mtu != fmt.Sprint(want.mtu) {
		t.Errorf("the guest's MTU is %s; layout %q has %d", mtu, options.layout, want.mtu)
	}
	if name := strings.TrimSpace(v.run(t, "hostname")); name != "vm" {
		t.Errorf("the guest calls itself %q; its pod is %q", name, "vm")
	}
	v.hasResolver(t, near)
	within(t, 30*time.Second, "podwire's status to be well", func(ctx context.Context) error {
		st, err := v.status(ctx)
		if err == nil && st.Binding != v.binding.name {
			err = fmt.Errorf("the binding is %q", st.Binding)
		}
		return err
	})
}

// hasAddresses has the guest have the addresses that the API says of its pod, or its
// own ones with a binding that gives it such, and no others, of each family; with IPv6, it has made sure that nobody else has them
// (RFC 4862 section 5.4).
func (v *vm) hasAddresses(t *testing.T) {
	t.Helper()
	for f, want := range v.guestAddrs() {
		within(t, 30*time.Second, "the guest to have its "+string(f)+" address", func(ctx context.Context) error {
			out, err := v.guest(ctx, "ip "+f.ip()+" -o addr show dev eth0 scope global")
			if err != nil {
				return err
			}
			if have := addresses(out); !slices.Equal(have, []netip.Addr{want}) || unusable.MatchString(out) {
				return fmt.Errorf("the guest has the addresses %q, and not %s", out, want)
			}
			return nil
		})
	}
}

// unusable is what ip says of an address that is not in use yet, or never will be.
var unusable = regexp.MustCompile(`\b(tentative|dadfailed)\b`)

// hasResolver has the guest ask those whom an ordinary pod of its namespace would
// ask. Those of each family are in the pod's order; how the families follow each
// other is the guest's affair, which hears of each by another protocol.
func (v *vm) hasResolver(t *testing.T, near peer) {
	t.Helper()
	wantServers, wantSearch := v.podResolver(t, near)
	wantServers = v.byFamily(wantServers)
	within(t, 30*time.Second, "the guest to have the pod's DNS", func(ctx context.Context) error {
		out, err := v.guest(ctx, "cat /etc/resolv.conf")
		if err != nil {
			return err
		}
		servers, search := resolver(out)
		servers = v.byFamily(servers)
		if !slices.Equal(servers, wantServers) || !slices.Equal(search, wantSearch) {
			return fmt.Errorf("the guest asks %q with search %q; an ordinary pod of its namespace would ask %q with search %q",
				servers, search, wantServers, wantSearch)
		}
		return nil
	})
}

// byFamily returns the servers of each family that is tested.
func (w *world) byFamily(servers []string) []string {
	var sorted []string
	for _, f := range w.families {
		for _, server := range servers {
			if addr, err := netip.ParseAddr(server); err == nil && f.has(addr) {
				sorted = append(sorted, server)
			}
		}
	}
	return sorted
}

// mtu returns the MTU of an ordinary pod.
func (v *vm) mtu(t *testing.T, p peer) string {
	t.Helper()
	out, err := v.in(t.Context(), p, "cat", "/sys/class/net/eth0/mtu")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// podResolver returns what an ordinary pod in the VM's namespace would have in its
// resolv.conf: what one in another namespace has, but for that.
func (v *vm) podResolver(t *testing.T, p peer) (servers, search []string) {
	t.Helper()
	out, err := v.in(t.Context(), p, "cat", "/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	servers, search = resolver(out)
	for i, domain := range search {
		search[i] = strings.Replace(domain, namespace+".", v.namespace+".", 1)
	}
	return servers, search
}

// domain returns the cluster's DNS domain.
func (v *vm) domain(t *testing.T) string {
	t.Helper()
	_, search := v.podResolver(t, v.near(v.pod.Spec.NodeName))
	domain, ok := strings.CutPrefix(append(search, "")[0], v.namespace+".svc.")
	if !ok {
		t.Fatalf("the search list of a pod is %q", search)
	}
	return domain
}

// resolver returns the servers and the search list of a resolv.conf.
func resolver(conf string) (servers, search []string) {
	for line := range strings.Lines(conf) {
		switch words := strings.Fields(line); {
		case len(words) < 2:
		case words[0] == "nameserver":
			servers = append(servers, words[1])
		case words[0] == "search":
			search = words[1:]
		}
	}
	return servers, search
}

var inet = regexp.MustCompile(`inet6? ([0-9a-f.:]+)`)

// addresses returns the addresses in what ip addr printed.
func addresses(text string) []netip.Addr {
	var addrs []netip.Addr
	for _, match := range inet.FindAllStringSubmatch(text, -1) {
		if addr, err := netip.ParseAddr(match[1]); err == nil {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// testPodToVM reaches the guest from its own node and from another.
func (v *vm) testPodToVM(t *testing.T) {
	v.reachable(t)
}

// reachable reaches the guest from its own node and from another, over HTTP and
// with a ping.
func (v *vm) reachable(t *testing.T) {
	t.Helper()
	v.eachWay(func(f family, from peer) {
		within(t, 30*time.Second, "the guest to answer over "+string(f)+" a pod on node "+from.node, func(ctx context.Context) error {
			if err := v.greets(ctx, from, url(v.addrs[f], 80, "/")); err != nil {
				return err
			}
			_, err := v.in(ctx, from, "ping", "-c", "1", "-W", "2", v.addrs[f].String())
			return err
		})
	})
}

// both are an ordinary pod on the VM's node and one on another.
func (v *vm) both() []peer {
	return []peer{v.near(v.pod.Spec.NodeName), v.far(v.pod.Spec.NodeName)}
}

// eachWay tries each family, with an ordinary pod on the VM's node and one on another.
func (v *vm) eachWay(try func(family, peer)) {
	for _, f := range v.families {
		for _, p := range v.both() {
			try(f, p)
		}
	}
}

// testVMToPod reaches from the guest a pod on its own node and one on another,
// which both see the pod's address, and no other, as the guest's, and the guest itself
// by that address.
func (v *vm) testVMToPod(t *testing.T) {
	v.eachWay(func(f family, to peer) {
		within(t, 30*time.Second, "the guest to reach over "+string(f)+" a pod on node "+to.node, func(ctx context.Context) error {
			addr := to.addrs[f]
			out, err := v.guest(ctx, "timeout 10 wget -q -O - "+url(addr, 80, "/cgi-bin/who")+" && ping -q -c 1 -W 2 "+addr.String()+" >/dev/null")
			if err != nil {
				return err
			}
			return isPeer(out, to, v.addrs[f])
		})
	})
	for _, f := range v.families {
		within(t, 30*time.Second, "the guest to reach itself over "+string(f)+" by the pod's address", func(ctx context.Context) error {
			out, err := v.guest(ctx, "timeout 10 wget -q -O - "+url(v.addrs[f], 80, "/"))
			if err != nil {
				return err
			}
			return v.isGreeting(out)
		})
	}
}

// isPeer asks whether an answer is that of a peer who saw who asked.
func isPeer(text string, p peer, saw netip.Addr) error {
	var node, who string
	if _, err := fmt.Sscanf(text, "peer on %s saw %s", &node, &who); err != nil || node != p.node {
		return fmt.Errorf("pod %q on node %q says %q", p.pod, p.node, text)
	}
	addr, err := netip.ParseAddr(strings.Trim(who, "[]"))
	if err != nil || addr.Unmap() != saw {
		return fmt.Errorf("pod %q was asked by %s, and not by %s", p.pod, who, saw)
	}
	return nil
}

// testBulk moves a megabyte each way, between the guest and a pod on its own node
// and on another: packets of any size get there.
func (v *vm) testBulk(t *testing.T) {
	v.run(t, "[ -e /www/bulk ] || dd if=/dev/zero of=/www/bulk bs=1024 count=1024")
	v.eachWay(func(f family, p peer) {
		within(t, time.Minute, "a megabyte from the guest over "+string(f)+" to a pod on node "+p.node, func(ctx context.Context) error {
			got, err := v.size(ctx, p, url(v.addrs[f], 80, "/bulk"))
			return isMegabyte(got, err)
		})
		within(t, time.Minute, "a megabyte to the guest over "+string(f)+" from a pod on node "+p.node, func(ctx context.Context) error {
			got, err := v.guest(ctx, "timeout 20 wget -q -O - "+url(p.addrs[f], 80, "/bulk")+" | wc -c")
			return isMegabyte(strings.TrimSpace(got), err)
		})
	})
}

func isMegabyte(size string, err error) error {
	if err == nil && size != "1048576" {
		err = fmt.Errorf("%s octets arrived", size)
	}
	return err
}

// testService reaches from the guest all endpoints of a service by its address:
// those on its own node and those on others.
func (v *vm) testService(t *testing.T) {
	for _, f := range v.families {
		within(t, time.Minute, "the guest to reach each endpoint of a service over "+string(f), func(ctx context.Context) error {
			out, err := v.guest(ctx, "for i in 1 2 3 4 5 6 7 8 9 10; do timeout 10 wget -q -O - "+url(v.service[f], 80, "/cgi-bin/who")+" || exit; done")
			if err != nil {
				return err
			}
			return v.sawAll(out)
		})
	}
}

// testDNS has the guest find services: by a name that takes the search list, and in
// each family (so that the name has an A record, or an AAAA, and no other) by its full
// name and by one that takes the part of the search list which is its namespace's own.
// And each of the guest's servers, which may be of either family, answers it.
func (v *vm) testDNS(t *testing.T) {
	domain := v.domain(t)
	v.apply(t, "services.yaml", map[string]any{"Namespace": v.namespace, "Peers": namespace, "Domain": domain})
	names := []string{"peer." + namespace}
	for _, f := range v.families {
		names = append(names, "peer-"+f.short()+"."+namespace+".svc."+domain, "friend-"+f.short())
	}
	for _, name := range names {
		within(t, time.Minute, "the guest to find a service as "+name, func(ctx context.Context) error {
			out, err := v.guest(ctx, "timeout 20 wget -q -O - http://"+name+"/cgi-bin/who")
			if err == nil && !strings.HasPrefix(out, "peer on ") {
				err = fmt.Errorf("%s says %q", name, out)
			}
			return err
		})
	}
	servers, _ := resolver(v.run(t, "cat /etc/resolv.conf"))
	for _, server := range v.byFamily(servers) {
		within(t, time.Minute, "the guest's DNS server "+server+" to answer", func(ctx context.Context) error {
			out, err := v.guest(ctx, "timeout 10 nslookup peer."+namespace+".svc."+domain+" "+server)
			for _, f := range v.families {
				if err == nil && !slices.Contains(strings.Fields(out), v.service[f].String()) {
					err = fmt.Errorf("it knows no %s address %s: %q", f, v.service[f], out)
				}
			}
			return err
		})
	}
}

// testAPIServer has the guest reach the API server by its name. That one speaks
// TLS, which the guest does not, and says so.
func (v *vm) testAPIServer(t *testing.T) {
	within(t, time.Minute, "the guest to reach the API server", func(ctx context.Context) error {
		out, err := v.guest(ctx, "timeout 20 wget -O - http://kubernetes.default.svc:443/ 2>&1; true")
		if err == nil && !strings.Contains(out, "400 Bad Request") {
			err = fmt.Errorf("it says %q", out)
		}
		return err
	})
}

// testVMService reaches the guest by a service that selects its pod, from both nodes:
// by the service's name, and by its address of each family.
func (v *vm) testVMService(t *testing.T) {
	v.apply(t, "services.yaml", map[string]any{"Namespace": v.namespace, "Peers": namespace, "Domain": v.domain(t)})
	within(t, 30*time.Second, "the VM to be its service's endpoint", func(ctx context.Context) error { return v.isEndpoint(ctx, true) })
	for _, from := range v.both() {
		within(t, 30*time.Second, "the service to reach the VM from node "+from.node, func(ctx context.Context) error {
			return v.greets(ctx, from, "http://vm."+v.namespace+"/")
		})
	}
	service, err := v.serviceAddrs(t.Context(), v.namespace, "vm")
	if err != nil {
		t.Fatal(err)
	}
	v.eachWay(func(f family, from peer) {
		within(t, 30*time.Second, "the service to reach the VM over "+string(f)+" from node "+from.node, func(ctx context.Context) error {
			return v.greets(ctx, from, url(service[f], 80, "/"))
		})
	})
}

// isEndpoint asks whether the VM is, or is not, what its service sends clients to, in
// each family.
func (v *vm) isEndpoint(ctx context.Context, want bool) error {
	endpoints, err := v.cluster.Endpoints(ctx, v.namespace, "vm")
	for _, addr := range v.addrs {
		if err == nil && slices.Contains(endpoints, addr) != want {
			err = fmt.Errorf("the service's endpoints are %v; the VM's addresses are %v", endpoints, v.addrs)
		}
	}
	return err
}
