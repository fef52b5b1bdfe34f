package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// bad are values that no setting takes, whatever it is of.
var bad = map[string]string{
	"empty":             "",
	"blank":             " \t ",
	"a control":         "a\x1b[31mb",
	"a NUL":             "/a\x00b",
	"no UTF-8":          "/a\xff\xfeb",
	"a replaced letter": "/a\ufffdb",
	"too long":          "/" + strings.Repeat("x", 100_000),
	"a list":            strings.Repeat("[", 1000),
	"separators":        ",,,",
}

// taken are the few of those that some setting takes: text is text.
func taken(f Field, kind string) bool {
	return (kind == "a list" || kind == "separators") && slices.Contains([]string{"tftp-server", "boot-file", "connect"}, f.Name)
}

// TestNoSourceTakesABadValue tries each setting by each way in which it can be given, so
// that one which is added is tried, too.
func TestNoSourceTakesABadValue(t *testing.T) {
	tried := 0
	for _, f := range Fields() {
		for kind, value := range bad {
			for source, give := range sources(f, value) {
				settings, err := give()
				c := Default()
				if err == nil {
					err = c.Apply(settings...)
				}
				tried++
				if taken(f, kind) {
					continue
				}
				checkLine(t, source+" "+f.Name+", "+kind, err, f.Name)
			}
		}
	}
	t.Logf("%d cases", tried)
}

// sources are the ways in which a setting can be given.
func sources(f Field, value string) map[string]func() ([]Setting, error) {
	object, _ := json.Marshal(map[string]string{f.Name: value})
	out := map[string]func() ([]Setting, error){
		"flag": func() ([]Setting, error) { return []Setting{FromFlag(f, []string{value})}, nil },
		"file": func() ([]Setting, error) { return FromFile("/etc/podwire.json", object) },
	}
	if value != "" { // which counts as unset
		out["environment"] = func() ([]Setting, error) { return FromEnv([]string{f.Env() + "=" + value}), nil }
	}
	if slices.Contains(ofPod, f.Name) {
		out["annotation"] = func() ([]Setting, error) {
			return FromAnnotations(map[string]string{AnnotationPrefix + f.Name: value})
		}
		out["node"] = func() ([]Setting, error) { return FromObject("settings", object) }
	}
	return out
}

// checkLine checks that an error is one line that names a field, a value and what is
// allowed, and holds nothing that a terminal would obey.
func checkLine(t *testing.T, what string, err error, names string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: taken", what)
		return
	}
	text := err.Error()
	env := strings.ToUpper(strings.ReplaceAll(names, "-", "_"))
	switch {
	case strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		t.Errorf("%s: %q is not printable", what, text)
	case len(text) > 1500:
		t.Errorf("%s: %d octets", what, len(text))
	case !strings.Contains(text, names) && !strings.Contains(text, env):
		t.Errorf("%s: %q does not name %s", what, text, names)
	case !strings.Contains(text, ": want "):
		t.Errorf("%s: %q does not say what is allowed", what, text)
	}
}

// TestFilesOfTheWrongShape: a file can be of any shape, at any length.
func TestFilesOfTheWrongShape(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'j'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ","))
	}
	for name, text := range map[string]string{
		"a bomb":                   bomb,
		"itself":                   "dns: &a [*a]",
		"deep":                     strings.Repeat("[", 200_000),
		"deep, closed":             "dns: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"deep mappings":            "dns: " + strings.Repeat("{a: ", 5000) + strings.Repeat("}", 5000),
		"huge":                     "dns: [" + strings.Repeat("10.0.0.1, ", MaxFile/10) + "]",
		"long":                     "hostname: " + strings.Repeat("x", MaxFile/2),
		"many":                     "dns: [" + strings.Repeat("10.0.0.1, ", 300) + "10.0.0.1]",
		"many keys":                "mtu: 1400\n" + strings.Repeat("hostname: x\n", 10_000),
		"binary":                   "\x7fELF\x02\x01\x01\x00\x00",
		"no UTF-8":                 "hostname: \xff\xfe",
		"a NUL":                    "hostname: a\x00b",
		"two documents":            "mtu: 1400\n---\nmtu: 1500\n",
		"a list":                   "[mtu]",
		"a word":                   "mtu",
		"a number":                 "1400",
		"a list as key":            "? [mtu]\n: 1400",
		"null":                     "mtu: ~",
		"null in a list":           "dns: [10.0.0.1, ~]",
		"an empty list":            "dns: []",
		"a list in a list":         "dns: [[10.0.0.1]]",
		"twice":                    "mtu: 1400\nmtu: 1400",
		"twice in JSON":            `{"mtu": 1400, "mtu": 1400}`,
		"null in JSON":             `{"mtu": null}`,
		"null in a list, in JSON":  `{"dns": ["10.0.0.1", null]}`,
		"an object in JSON":        `{"mtu": {"mtu": 1}}`,
		"an empty list in JSON":    `{"dns": []}`,
		"a list in a list in JSON": `{"dns": [["10.0.0.1"]]}`,
		"half a surrogate":         `{"boot-file": "\ud83d"}`,
		"no UTF-8 in JSON":         "{\"boot-file\": \"\xff\"}",
		"an unknown key":           strings.Repeat("k", 100_000) + ": 1",
		"an odd key":               "\"\\e[31m\": 1",
		"a tag":                    "mtu: !!binary AAAA",
		"a foreign tag":            "mtu: !foo 1",
		"a fraction":               "mtu: 1400.0",
		"octal":                    "mtu: 0o2600",
	} {
		settings, err := FromFile("/etc/pod\nwire.yaml", []byte(text))
		c := Default()
		if err == nil {
			err = c.Apply(settings...)
		}
		checkLine(t, name, err, `pod\nwire.yaml`)
	}
}

// TestWordsOfAFileAreTaken as they are written: on is no number one, and 010 no eight.
func TestWordsOfAFileAreTakenAsTheyAreWritten(t *testing.T) {
	settings, err := FromFile("f.yaml", []byte("vhost: on\nhostname: 010\nmtu: \"1400\"\nboot-file: 1e3\ndns-forward: true\nsearch: [no, 1.0]\n"))
	c := Default()
	if err == nil {
		err = c.Apply(settings...)
	}
	if err != nil || c.Vhost != "on" || c.Hostname != "010" || c.MTU != 1400 || c.BootFile != "1e3" || !c.DNSForward || !slices.Equal(c.Search, []string{"no", "1.0"}) {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestFilesThatAreTaken are those of earlier releases, and what JSON has that YAML has not.
func TestFilesThatAreTaken(t *testing.T) {
	for text, want := range map[string]Config{
		"dns-forward: Yes\nguard: on\nall: TRUE\n":  {DNSForward: true, Guard: true, All: true},
		"dns-forward: no\nguard: OFF\nall: False\n": {},
		"dns-forward: \"yes\"":                      {DNSForward: true},
		"mtu: 1400\n---\n":                          {MTU: 1400},
		"---\nmtu: 1400\n---\n# no more\n---":       {MTU: 1400},
		"hostname: \"null\"":                        {Hostname: "null"},
		"hostname: 'null'\nsearch: [\"null\"]":      {Hostname: "null", Search: []string{"null"}},
		`{"boot-file": "http:\/\/a.example\/\u00e9\ud83d\ude00", "mtu": 1400, "guard": true, "dns-forward": "on", "hostname": "null"}`: {
			BootFile: "http://a.example/é😀", MTU: 1400, Guard: true, DNSForward: true, Hostname: "null",
		},
		`{"search": ["a", "b"], "hostname": "\u0076m"}`: {Search: []string{"a", "b"}, Hostname: "vm"},
	} {
		settings, err := FromFile("f", []byte(text))
		var c Config
		if err == nil {
			err = c.Apply(settings...)
		}
		c.Given = nil
		if got, expected := fmt.Sprintf("%+v", c), fmt.Sprintf("%+v", want); err != nil || got != expected {
			t.Errorf("%s: %v\n%s, want\n%s", text, err, got, expected)
		}
	}
}

// TestWhatIsRecordedIsValid, and what could not have been given is not. A setting that is
// added is tried, too: what is kept of it must be looked at again.
func TestWhatIsRecordedIsValid(t *testing.T) {
	samples := map[string]string{
		"interface": "eth0", "network-status": "/a", "binding": "tc", "mac": "02:00:00:00:00:01", "mtu": "1400", "tap-owner": "107:107", "queues": "4",
		"port": "80", "exclude-port": "81/udp", "exclude-from": "10.0.0.0/8", "vm-network-cidr": "10.9.0.0/24", "vm-ipv6-network-cidr": "fd99::/64",
		"model": "e1000e", "vhost": "on", "pci-address": "0000:01:00.0", "hostname": "vm", "domain": "a.example", "search": "b.example", "dns": "10.0.0.1",
		"ntp": "fd00::1", "tftp-server": "x", "boot-file": "y", "dhcp-option": "240=z", "lease-time": "1h", "resolv-conf": "/etc/resolv.conf",
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("nothing: %v", err)
	}
	for _, f := range Fields() {
		var c Config
		text, ok := samples[f.Name]
		if !ok {
			before, _ := json.Marshal(c)
			if f.Switch() || f.set(&c, []string{"on"}) && sameKept(c, before) || f.set(&c, []string{"1h"}) && sameKept(c, before) ||
				f.set(&c, []string{"/a"}) && sameKept(c, before) || f.set(&c, []string{"json"}) && sameKept(c, before) || f.set(&c, []string{"info"}) && sameKept(c, before) {
				continue
			}
			t.Errorf("%s is kept, and no value of it is tried", f.Name)
			continue
		}
		if err := c.Apply(Setting{f.Name, "", []string{text}}); err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
		if !slices.ContainsFunc(c.recorded(), func(s Setting) bool { return s.Field == f.Name && len(s.Values) == 1 && s.Values[0] != "" }) {
			t.Errorf("%s is not looked at again", f.Name)
		}
	}
	for name, text := range map[string]string{
		"binding": `{"binding": "x"}`, "mtu": `{"mtu": 7}`, "queues": `{"queues": -1}`, "model": `{"model": "'/><x a='"}`, "vhost": `{"vhost": "maybe"}`,
		"resolv-conf": `{"resolvConf": "../shadow"}`, "pci-address": `{"pciAddress": "x"}`, "hostname": `{"hostname": "a b"}`, "search": `{"search": ["a", "b!"]}`,
		"dns": `{"dns": ["0.0.0.0"]}`, "dhcp-option": `{"dhcpOptions": {"53": "x"}}`, "lease-time": `{"leaseTime": 5}`, "tap-owner": `{"tapOwner": {"uid": -7, "gid": 0}}`,
		"port": `{"ports": [{"protocol": "icmp", "first": 1, "last": 1}]}`, "tftp-server": `{"tftpServer": "a\u001bb"}`, "interface": `{"interfaces": ["../../x"]}`,
		"exclude-from": `{"excludeFrom": ["10.0.0.1/8"]}`, "vm-network-cidr": `{"vmNetwork": "10.0.0.0/31"}`,
	} {
		var c Config
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Fatal(name, err)
		}
		err := c.Validate()
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", text, err)
		}
		checkLine(t, text, err, name)
	}
}

// sameKept reports whether what is kept of the settings is what it was.
func sameKept(c Config, before []byte) bool {
	now, err := json.Marshal(c)
	return err == nil && string(now) == string(before)
}
