package domxml

import (
	"errors"
	"strings"
)

// Name returns the name of a domain, as libvirt will know it. A domain without
// one is an error: libvirt refuses it.
func Name(domain string) (string, error) {
	root, err := parseDomain(domain)
	if err != nil {
		return "", err
	}
	if n := root.child("name"); n != nil && strings.TrimSpace(n.content.String()) != "" {
		return n.content.String(), nil
	}
	return "", errors.New("reading the domain: it has no <name>")
}

// UUID returns the UUID that a domain asks for in lower case, or nothing where
// it leaves the choice to libvirt.
func UUID(domain string) (string, error) {
	root, err := parseDomain(domain)
	if err != nil {
		return "", err
	}
	if n := root.child("uuid"); n != nil {
		return strings.ToLower(strings.TrimSpace(n.content.String())), nil
	}
	return "", nil
}
