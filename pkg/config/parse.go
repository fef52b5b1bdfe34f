package config

import (
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/resolvconf"
)

type (
	setter     = func(c *Config, values []string) bool
	durationOf time.Duration
	addrList   []netip.Addr
)

const (
	minTimeout = time.Second
	maxTimeout = 24 * time.Hour

	minLease = 2 * time.Second
	// maxLease keeps a finite lease apart from 0xffffffff, which is the infinite
	// one (RFC 2131 §3.3).
	maxLease = (math.MaxUint32 - 1) * time.Second

	// maxStateDir leaves room for a socket's name, 15 letters of interface and
	// ".sock", in the 107 octets of a Unix socket's path. What a node keeps of a
	// pod, below the name of its 64 letters, just fits.
	maxStateDir = 86

	// maxPath is PATH_MAX of Linux less its terminating zero.
	maxPath = 4095

	maxID = math.MaxUint32 - 1 // the last one means "no change" to the kernel
)

// one makes a setter of a parser of a single value.
func one(parse func(c *Config, v string) bool) setter {
	return func(c *Config, values []string) bool {
		return len(values) == 1 && parse(c, values[0])
	}
}

func oneOf(of func(*Config) *string, allowed ...string) setter {
	return one(func(c *Config, v string) bool {
		*of(c) = v
		return slices.Contains(allowed, v)
	})
}

func absolute(of func(*Config) *string) setter {
	return one(func(c *Config, v string) bool {
		*of(c) = v
		return filepath.IsAbs(v) && printable(v) && len(v) <= maxPath
	})
}

func text(of func(*Config) *string) setter {
	return one(func(c *Config, v string) bool {
		*of(c) = v
		return v != "" && len(v) <= 255 && printable(v)
	})
}

// boolean takes YAML's words for it from every source, since a file may have any of them.
func boolean(of func(*Config) *bool) setter {
	return one(func(c *Config, v string) bool {
		switch strings.ToLower(v) {
		case "true", "t", "1", "yes", "on":
			*of(c) = true
		case "false", "f", "0", "no", "off":
			*of(c) = false
		default:
			return false
		}
		return true
	})
}

func integer(of func(*Config) *int, low, high int) setter {
	return one(func(c *Config, v string) bool {
		n, err := strconv.Atoi(v)
		*of(c) = n
		return err == nil && n >= low && n <= high
	})
}

func duration(of func(*Config) *durationOf, low, high time.Duration) setter {
	return one(func(c *Config, v string) bool {
		d, ok := parseDuration(v)
		*of(c) = durationOf(d)
		return ok && d >= low && d <= high
	})
}

func domainName(of func(*Config) *string) setter {
	return one(func(c *Config, v string) bool {
		name, err := resolvconf.Domain(v)
		*of(c) = name
		return err == nil
	})
}

func addresses(of func(*Config) *addrList) setter {
	return func(c *Config, values []string) bool {
		list := make(addrList, 0, len(values))
		for _, v := range values {
			addr, err := netip.ParseAddr(v)
			if err != nil || addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() {
				return false
			}
			if addr = addr.Unmap(); slices.Contains(list, addr) {
				return false
			}
			list = append(list, addr)
		}
		*of(c) = list
		return true
	}
}

func setInterfaces(c *Config, values []string) bool {
	c.Interfaces = values
	for i, name := range values {
		if !interfaceName(name) || slices.Contains(values[:i], name) {
			return false
		}
	}
	return true
}

// interfaceName follows the kernel's dev_valid_name. A name is also part of the
// state file's path, so it must not be able to lead elsewhere; a comma parts names.
func interfaceName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 15 &&
		!strings.ContainsAny(name, "/:%,") && !strings.ContainsFunc(name, unicode.IsSpace) && printable(name)
}

func setStateDir(c *Config, values []string) bool {
	return absolute(func(c *Config) *string { return &c.StateDir })(c, values) && len(c.StateDir) <= maxStateDir
}

func setMAC(c *Config, values []string) bool {
	return one(func(c *Config, v string) bool {
		mac, err := netstate.ParseMAC(v)
		c.MAC = mac
		return err == nil && mac.IsUnicast() && mac[0] != 0xfe
	})(c, values)
}

func setOwner(c *Config, values []string) bool {
	return one(func(c *Config, v string) bool {
		uid, gid, both := strings.Cut(v, ":")
		owner := Owner{GID: -1}
		var ok bool
		if owner.UID, ok = id(uid); !ok {
			return false
		}
		if both {
			if owner.GID, ok = id(gid); !ok {
				return false
			}
		}
		c.TapOwner = &owner
		return true
	})(c, values)
}

func id(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil && n <= maxID
}

func setSearch(c *Config, values []string) bool {
	c.Search = make([]string, len(values))
	for i, v := range values {
		name, err := resolvconf.Domain(v)
		if err != nil || slices.Contains(c.Search[:i], name) {
			return false
		}
		c.Search[i] = name
	}
	return true
}

func setOptions(c *Config, values []string) bool {
	c.Options = make(map[uint8]string, len(values))
	for _, v := range values {
		code, value, found := strings.Cut(v, "=")
		n, err := strconv.Atoi(code)
		if !found || err != nil || n < 224 || n > 254 || value == "" || len(value) > 255 || !printable(value) {
			return false
		}
		if _, twice := c.Options[uint8(n)]; twice {
			return false
		}
		c.Options[uint8(n)] = value
	}
	return true
}

func setLeaseTime(c *Config, values []string) bool {
	return one(func(c *Config, v string) bool {
		if v == "infinite" {
			c.LeaseTime = Infinite
			return true
		}
		d, ok := parseDuration(v)
		c.LeaseTime = d
		return ok && d >= minLease && d <= maxLease && d%time.Second == 0
	})(c, values)
}

// parseDuration takes Go's notation, and a plain number as seconds.
func parseDuration(v string) (time.Duration, bool) {
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		return time.Duration(n) * time.Second, true
	}
	d, err := time.ParseDuration(v)
	return d, err == nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) })
}
