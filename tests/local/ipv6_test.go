package local

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// bind6 has a guest's dhclient get the addresses of DHCPv6, while the kernel takes the
// routes.
func (w *testWorld) bind6(t *testing.T, guest *pod.Space, link string) *client.Client {
	t.Helper()
	w.LinkLocal(t, guest, link)
	c, err := client.Dhclient6(guest, w.Dir, link, "")
	world.Running(t, c, err)
	w.Wait(t, c, "BOUND6")
	return c
}

// defaults6 are the routers of a guest's IPv6 default routes, the best first.
func (w *testWorld) defaults6(t *testing.T, guest *pod.Space) []string {
	t.Helper()
	var routes []struct {
		Gateway string `json:"gateway"`
		Pref    string `json:"pref"`
	}
	if err := json.Unmarshal([]byte(w.Output(t, guest, "ip -6 -j route show default")), &routes); err != nil {
		t.Fatal(err)
	}
	var best, rest []string
	for _, each := range routes {
		if each.Pref == "low" {
			rest = append(rest, each.Gateway)
		} else {
			best = append(best, each.Gateway)
		}
	}
	return append(best, rest...)
}

// hasDefault6 waits until a guest has so many IPv6 default routes, and returns their
// routers.
func (w *testWorld) hasDefault6(t *testing.T, guest *pod.Space, number int) []string {
	t.Helper()
	var routers []string
	w.Eventually(t, fmt.Sprintf("has %d IPv6 default routes", number), func() string {
		if routers = w.defaults6(t, guest); len(routers) != number {
			return fmt.Sprintf("they go by %v", routers)
		}
		return ""
	})
	return routers
}
