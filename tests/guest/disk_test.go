package guest

import (
	"bytes"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/podwire/podwire/tests/checkout"
)

// disk writes the demo guest's file system and returns where.
func disk(t *testing.T) string {
	t.Helper()
	dir, err := checkout.Find()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image")
	if err := Disk(dir, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// install runs the image's own script with the image's own shell.
func install(t *testing.T, image, dir string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(filepath.Join(image, "bin/busybox"), "sh", filepath.Join(image, "disk/install"), dir)
	cmd.Env = append(env, "PATH="+filepath.Join(image, "bin"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestInstalledDomainBootsWhatWasInstalled(t *testing.T) {
	image := disk(t)
	for accel, kind := range map[string]string{"": "qemu", "tcg": "qemu", "kvm": "kvm"} {
		t.Run("accel="+accel, func(t *testing.T) {
			dir := t.TempDir()
			if out, err := install(t, image, dir, "NAME=vm-0.a", "ACCEL="+accel); err != nil {
				t.Fatalf("install: %v\n%s", err, out)
			}
			text, err := os.ReadFile(filepath.Join(dir, "vm.xml"))
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Type   string `xml:"type,attr"`
				Name   string `xml:"name"`
				Kernel string `xml:"os>kernel"`
				Initrd string `xml:"os>initrd"`
				Serial struct {
					Source struct {
						Path   string `xml:"path,attr"`
						Append string `xml:"append,attr"`
					} `xml:"source"`
				} `xml:"devices>serial"`
			}
			if err := xml.Unmarshal(text, &got); err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			if got.Type != kind || got.Name != "vm-0.a" {
				t.Errorf("got a domain of type %q with the name %q, want %q, %q", got.Type, got.Name, kind, "vm-0.a")
			}
			for _, path := range []string{got.Kernel, got.Initrd} {
				if filepath.Dir(path) != dir {
					t.Errorf("domain boots %q, which is not in %q", path, dir)
				}
				if info, err := os.Stat(path); err != nil || info.Size() == 0 {
					t.Errorf("domain boots %q: %v", path, err)
				}
			}
			if got.Serial.Source.Path != standardOutput || got.Serial.Source.Append != "on" {
				t.Errorf("the console goes to %+v", got.Serial.Source)
			}
		})
	}
}

func TestInstallRefusesWhatMakesNoDomain(t *testing.T) {
	image := disk(t)
	for _, env := range []string{"NAME=a|b", "NAME=<vm>", "ACCEL=xen"} {
		out, err := install(t, image, t.TempDir(), "NAME=vm", env)
		if err == nil || !strings.HasPrefix(out, "install: ") {
			t.Errorf("%s: error %v, output %q", env, err, out)
		}
	}
}

func TestDiskHoldsACommandLineForEachCommand(t *testing.T) {
	image := disk(t)
	for _, name := range []string{"sh", "cp", "sleep", "wget", "ping", "nslookup", "nc", "ip", "httpd"} {
		target, err := os.Readlink(filepath.Join(image, "bin", name))
		if err != nil || target != "busybox" {
			t.Errorf("bin/%s is a link to %q: %v", name, target, err)
		}
	}
}

// The control port's answer always ends with a line of its own for the status.
func TestControlPortRunsTheBody(t *testing.T) {
	image := disk(t)
	for body, want := range map[string]string{
		"echo a; echo b >&2":    "a\nb\nexit 0\n",
		"printf a; exit 7":      "a\nexit 7\n",
		"false":                 "exit 1\n",
		"echo '$x' \"\\\\n\"":   "$x \\n\nexit 0\n",
		"cat; echo no input":    "no input\nexit 0\n",
		"echo one\necho two\n":  "one\ntwo\nexit 0\n",
		"nosuchcommand-podwire": "sh: nosuchcommand-podwire: not found\nexit 127\n",
	} {
		cmd := exec.Command(filepath.Join(image, "bin/busybox"), "sh", "run")
		cmd.Env = []string{"PATH=" + filepath.Join(image, "bin"), "CONTENT_LENGTH=" + strconv.Itoa(len(body))}
		cmd.Stdin = strings.NewReader(body + "what is behind the body")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		_, got, ok := bytes.Cut(out, []byte("\r\n\r\n"))
		if !ok || string(got) != want {
			t.Errorf("%q was answered with %q, want %q", body, out, want)
		}
	}
}
