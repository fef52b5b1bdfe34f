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
	Guest   *struct {
		Message string    `json:"message"`
		Answer  string    `json:"answer"`
		At      time.Time `json:"at"`
	} `json:"guest"`
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
