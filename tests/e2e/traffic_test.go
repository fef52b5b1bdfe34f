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
	addrs := v.run(t, "ip "+v.family.ip+" -o addr show dev eth0 scope global")
	if !slices.Contains(addresses(addrs), v.addr) {
		t.Errorf("the guest has the addresses %q; the API says %s", addrs, v.addr)
	}
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
	servers, search := resolver(v.run(t, "cat /etc/resolv.conf"))
	wantServers, wantSearch := v.podResolver(t, near)
	if !slices.Equal(servers, wantServers) || !slices.Equal(search, wantSearch) {
		t.Errorf("the guest asks %q with search %q; an ordinary pod of its namespace would ask %q with search %q", servers, search, wantServers, wantSearch)
	}
	within(t, 30*time.Second, "podwire's status to be well", func(ctx context.Context) error {
		st, err := v.status(ctx)
		if err == nil && st.Binding != options.binding {
			err = fmt.Errorf("the binding is %q", st.Binding)
		}
		return err
	})
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
	for _, from := range v.both() {
		within(t, 30*time.Second, "the guest to answer a pod on node "+from.node, func(ctx context.Context) error {
			if err := v.greets(ctx, from, url(v.addr, 80, "/")); err != nil {
				return err
			}
			_, err := v.in(ctx, from, "ping", "-c", "1", "-W", "2", v.addr.String())
			return err
		})
	}
}

// both are an ordinary pod on the VM's node and one on another.
func (v *vm) both() []peer {
	return []peer{v.near(v.pod.Spec.NodeName), v.far(v.pod.Spec.NodeName)}
}

// testVMToPod reaches from the guest a pod on its own node and one on another,
// which both see the pod's address, and no other, as the guest's.
func (v *vm) testVMToPod(t *testing.T) {
	for _, to := range v.both() {
		within(t, 30*time.Second, "the guest to reach a pod on node "+to.node, func(ctx context.Context) error {
			out, err := v.guest(ctx, "timeout 10 wget -q -O - "+url(to.addr, 80, "/cgi-bin/who")+" && ping -q -c 1 -W 2 "+to.addr.String()+" >/dev/null")
			if err != nil {
				return err
			}
			return isPeer(out, to, v.addr)
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
	for _, p := range v.both() {
		within(t, time.Minute, "a megabyte from the guest to a pod on node "+p.node, func(ctx context.Context) error {
			got, err := v.size(ctx, p, url(v.addr, 80, "/bulk"))
			return isMegabyte(got, err)
		})
		within(t, time.Minute, "a megabyte to the guest from a pod on node "+p.node, func(ctx context.Context) error {
			got, err := v.guest(ctx, "timeout 20 wget -q -O - "+url(p.addr, 80, "/bulk")+" | wc -c")
			return isMegabyte(strings.TrimSpace(got), err)
		})
	}
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
	within(t, time.Minute, "the guest to reach each endpoint of a service", func(ctx context.Context) error {
		out, err := v.guest(ctx, "for i in 1 2 3 4 5 6 7 8 9 10; do timeout 10 wget -q -O - "+url(v.service, 80, "/cgi-bin/who")+" || exit; done")
		if err != nil {
			return err
		}
		for _, p := range v.both() {
			if !strings.Contains(out, "peer on "+p.node+" ") {
				return fmt.Errorf("ten requests did not reach node %q: %q", p.node, out)
			}
		}
		return nil
	})
}

// testDNS has the guest find a service by its full name, by one that takes the
// search list, and by one that takes the part of it which is its namespace's own.
func (v *vm) testDNS(t *testing.T) {
	domain := v.domain(t)
	v.apply(t, "services.yaml", map[string]string{"Namespace": v.namespace, "Peers": namespace, "Domain": domain})
	for _, name := range []string{"peer." + namespace + ".svc." + domain, "peer." + namespace, "friend"} {
		within(t, time.Minute, "the guest to find a service as "+name, func(ctx context.Context) error {
			out, err := v.guest(ctx, "timeout 20 wget -q -O - http://"+name+"/cgi-bin/who")
			if err == nil && !strings.HasPrefix(out, "peer on ") {
				err = fmt.Errorf("%s says %q", name, out)
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

// testVMService reaches the guest by a service that selects its pod, from both nodes.
func (v *vm) testVMService(t *testing.T) {
	v.apply(t, "services.yaml", map[string]string{"Namespace": v.namespace, "Peers": namespace, "Domain": v.domain(t)})
	within(t, 30*time.Second, "the VM to be its service's endpoint", func(ctx context.Context) error { return v.isEndpoint(ctx, true) })
	for _, from := range v.both() {
		within(t, 30*time.Second, "the service to reach the VM from node "+from.node, func(ctx context.Context) error {
			return v.greets(ctx, from, "http://vm."+v.namespace+"/")
		})
	}
}

// isEndpoint asks whether the VM is, or is not, what its service sends clients to.
func (v *vm) isEndpoint(ctx context.Context, want bool) error {
	addrs, err := v.cluster.Endpoints(ctx, v.namespace, "vm")
	if err == nil && slices.Contains(addrs, v.addr) != want {
		err = fmt.Errorf("the service's endpoints are %v; the VM's address is %s", addrs, v.addr)
	}
	return err
}
