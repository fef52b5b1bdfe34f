//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"time"
)

// status is what podwire status prints of the one interface, in so far as the
// tests want it.
type status struct {
	Binding string   `json:"binding"`
	Limits  []string `json:"limits"`
	Guest   *guest   `json:"guest"`
}

// guest is what the server had of the guest since it was started.
type guest struct {
	Message     string    `json:"message"`
	Answer      string    `json:"answer"`
	At          time.Time `json:"at"`
	BoundAt     time.Time `json:"boundAt"`
	BoundIPv6At time.Time `json:"boundIPv6At"`
}

// bound is when it was last given its addresses of a family, if at all.
func (g guest) bound(f family) time.Time {
	if f == ipv6 {
		return g.BoundIPv6At
	}
	return g.BoundAt
}

func parseStatus(text string) (status, error) {
	var result struct {
		Interfaces []status `json:"interfaces"`
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		return status{}, fmt.Errorf("reading podwire's status %q: %w", text, err)
	}
	if len(result.Interfaces) != 1 {
		return status{}, fmt.Errorf("podwire's status has %d interfaces: %s", len(result.Interfaces), text)
	}
	return result.Interfaces[0], nil
}
