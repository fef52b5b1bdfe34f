package input

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// bad are values that no setting takes, whatever it is of.
var bad = map[string]string{
	"a control":   "a\x1b[31mb",
	"no UTF-8":    "/a\xff\xfeb",
	"too long":    "/" + strings.Repeat("x", 100_000),
	"a line":      "\n",
	"white space": " \t ",
}

// flag is a line of the help.
var flag = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z0-9-]+)( [^ ]+)? `)

// TestGivenValuesAreRefused tries each flag that the help has, by each way to give it; so
// one that is added is tried, too.
func TestGivenValuesAreRefused(t *testing.T) {
	t.Parallel()
	in := newInput(t, pod.Bridge, 5*time.Minute)
	in.untouched(t, func() {
		for _, command := range []string{"prestart", "serve", "teardown"} {
			in.flags(t, command)
		}
		in.files(t)
		in.lines(t)
		in.documents(t)
	})
	if out := in.Output(t, in.VM.Space, "find /run -name podwire*"); out != "" {
		t.Errorf("there is a state directory: %s", out)
	}
	in.figures(t)
}

func (in *input) flags(t *testing.T, command string) {
	t.Helper()
	help, _, _ := in.run(t, try{args: []string{command, "--help"}})
	found := flag.FindAllStringSubmatch(help, -1)
	if len(found) < 8 {
		t.Fatalf("%d flags in\n%s", len(found), help)
	}
	for _, f := range found {
		name := f[1]
		if name == "help" || name == "config" {
			continue
		}
		env := "PODWIRE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if name == "port" { // see pkg/config
			env = "PODWIRE_PORTS"
		}
		for kind, value := range bad {
			if !world.Long() && command != "prestart" && kind != "no UTF-8" {
				continue
			}
			in.refused(t, "flags", try{args: []string{command, "--" + name + "=" + value}}, 2, "--"+name+": ", ": want ")
			in.refused(t, "environment variables", try{args: []string{command}, env: []string{env + "=" + value}}, 2, env+": ", ": want ")
			if command != "prestart" {
				continue
			}
			// JSON has no octets that are not UTF-8: there they come as they are.
			text, _ := json.Marshal(value)
			if kind == "no UTF-8" {
				text = []byte(`"` + value + `"`)
			}
			in.put(t, "/tmp/f.yaml", name+": "+string(text)+"\n")
			in.refused(t, "values of a configuration file", try{args: []string{command, "--config=/tmp/f.yaml"}}, 2, "f.yaml: ", ": want ")
		}
		in.refused(t, "flags", try{args: []string{command, "--" + name + "="}}, 2, "--"+name+": ", ": want ")
	}
}

// files are configuration files of the wrong shape.
func (in *input) files(t *testing.T) {
	t.Helper()
	for _, text := range []string{
		"a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ndns: [*d,*d,*d,*d,*d]\n",
		"dns: &a [*a]", "dns: " + strings.Repeat("[", 100_000), "dns: " + strings.Repeat("{a: ", 5000) + strings.Repeat("}", 5000),
		"mtu: 1400\nmtu: 1500\n", `{"mtu": 1400, "mtu": 1500}`, "mtu: 1400\n---\nmtu: 1500\n", "mtu:\n", "mtu: {a: 1}", "mtu: [1400, 1500]",
		"dns: []", "dns: [~]", "- mtu", "mtu", "7", "\x7fELF\x02\x01\x01\x00", "mtuu: 1400", "\"\\e[31m\": 1", strings.Repeat("k", 5000) + ": 1",
		"hostname: " + strings.Repeat("x", 2<<20), "dns: [" + strings.Repeat("10.0.0.1,", 1000) + "10.0.0.1]", "dns: [10.0.0.1, 10.0.0.1]", "mtu: 1400.5", "\t{",
	} {
		in.put(t, "/tmp/f.yaml", text)
		in.refused(t, "configuration files of a wrong shape", try{args: []string{"setup", "--config", "/tmp/f.yaml"}}, 2, "f.yaml", "want ")
	}
	in.put(t, "/tmp/good.yaml", "mtu: 1400\n")
	for _, path := range []string{"/nowhere", "/tmp", "/dev/zero", "/proc/self/mem", "/tmp/\x1b[31m", strings.Repeat("x", 5000)} {
		in.refused(t, "configuration files that cannot be read", try{args: []string{"setup", "--config", path}}, 2, "--config: ", "want a file of settings")
		in.refused(t, "configuration files that cannot be read", try{args: []string{"setup"}, env: []string{"PODWIRE_CONFIG=" + path}}, 2, "PODWIRE_CONFIG: ")
	}
	in.refused(t, "duplicates", try{args: []string{"setup", "--config=/tmp/good.yaml", "--config=/tmp/good.yaml"}}, 2, "--config: ", "want one file")
}

// lines are command lines that make no sense.
func (in *input) lines(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"wire"},
		{strings.Repeat("x", 50_000)},
		{"\x1b[31m"},
		{"setup", "now"},
		{"setup", "--mtuu=1"},
		{"setup", "--" + strings.Repeat("x", 50_000)},
		{"setup", "-Z"},
		{"setup", "--mtu"},
		{"domain", "a", "b"},
		{"hook"},
		{"hook", "a", "b"},
		{"cni", "wire"},
		{"cni", "install", "--bin-dir=x"},
		{"cni", "install", "--watch=x"},
		{"serve", "--mtu=1400"},
		{"setup", "--all", "--interface=eth0"},
		{"setup", "-i=eth0", "-i=net1", "--mac=02:00:00:00:00:01"},
		{"setup", "--port=80"},
		{"setup", "--model=e1000e", "--queues=4"},
	} {
		in.refused(t, "command lines", try{args: args}, 2, "podwire: ")
	}
	for _, twice := range []string{
		"--mtu=1400", "--mac=02:00:00:00:00:01", "--binding=tc", "--hostname=a", "--all", "--state-dir=/run/x", "--interface=eth0", "--dns=10.0.0.1", "--dns=::ffff:10.0.0.1",
		"--search=a.example", "--ntp=fd00::1", "--dhcp-option=240=a", "--port=80", "--exclude-port=81", "--exclude-from=10.0.0.0/8", "--lease-time=1h", "--ready-file=/run/r",
	} {
		name, _, _ := strings.Cut(twice, "=")
		in.refused(t, "duplicates", try{args: []string{"prestart", twice, twice}}, 2, name+": ", "want ")
	}
}

const domain = `<domain type='kvm'><name>vm</name><devices><interface type='ethernet'><target dev='tap-eth0' managed='no'/></interface></devices></domain>`

// documents are domains and annotations.
func (in *input) documents(t *testing.T) {
	t.Helper()
	wrong := []string{
		"", " ", "<", "<domain", "<a/>", domain + domain, domain + "x", "x" + domain, "\xff\xfe<\x00", "<domain>\x00</domain>", "<domain a='1' a='2'/>", "<domain>&lol;</domain>",
		"<domain>" + strings.Repeat("<a>", 100_000), "<domain>" + strings.Repeat("<a>", 1000) + strings.Repeat("</a>", 1000) + "</domain>", "<domain>" + strings.Repeat("<a/>", 200_000) + "</domain>",
		"<domain>" + strings.Repeat("x", 5<<20) + "</domain>", "<?xml version='1.0' encoding='EBCDIC'?>" + domain, "<\x1b[31m/>", "<" + strings.Repeat("x", 100_000) + "/>", domain[:len(domain)-9],
		"<domain xmlns='x:" + strings.Repeat("y", 100_000) + "'>", strings.Repeat("\x00", 1000), `{"domain": {}}`,
	}
	every := 20
	if world.Long() {
		every = 1
	}
	for n := 1; n < len(domain); n += every {
		wrong = append(wrong, domain[:n])
	}
	for _, text := range wrong {
		in.put(t, "/tmp/vm.xml", text)
		in.refused(t, "domains", try{args: []string{"domain", "/tmp/vm.xml"}}, 2)
		in.refused(t, "domains for the hook", try{args: []string{"hook", "vm", "prepare", "begin", "-"}, stdin: text}, 2)
	}
	for _, text := range []string{"{", "{}", "7", "[7]", `[{"name": 7}]`, `[{"interface": []}]`, `[{"dns": "x"}]`, `[{"name": "\u001b[31m"}]`, `[{"interface": "a"}, {"interface": "a"}]`, "\xff", strings.Repeat("[", 100_000), strings.Repeat(" ", 2<<20)} {
		in.put(t, "/tmp/status", text)
		in.refused(t, "network-status annotations", try{args: []string{"setup", "--all", "--network-status=/tmp/status"}}, 2, "--network-status: ", "want ")
	}
	in.Output(t, in.VM.Space, "mkfifo /tmp/pipe")
	in.refused(t, "network-status annotations", try{args: []string{"setup", "--all", "--network-status=/tmp/pipe"}}, 2, "--network-status: ", "pipe")
}
