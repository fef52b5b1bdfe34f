package input

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

const stateFile = stateDir + "/eth0.json"

// TestDamagedStatesAreRefused puts a damaged state in the place of that of a pod which is
// wired and served: nothing changes, and the teardown that cannot put the pod back ends
// with 3.
func TestDamagedStatesAreRefused(t *testing.T) {
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		in := newInput(t, b, 8*time.Minute)
		in.Prestart(t)
		good, err := in.VM.ReadFile(stateFile)
		if err != nil {
			t.Fatal(err)
		}
		was := in.wiring(t)
		defer func() {
			if diff := cmp.Diff(was, in.wiring(t)); diff != "" {
				t.Errorf("the pod's network (-before +after):\n%s", diff)
			}
		}()
		for n, text := range damaged(t, good) {
			in.put(t, stateFile, text)
			before := in.listing(t)
			switch n % 4 { // each, by one of those that read it
			case 0:
				in.refused(t, "state files, "+string(b), try{args: []string{"teardown"}}, 3, stateFile+": ", "want ")
			case 1:
				in.refused(t, "state files, "+string(b), try{args: []string{"setup"}}, 2, stateFile+": ", "want ")
			case 2:
				in.refused(t, "state files, "+string(b), try{args: []string{"status"}}, 2, stateFile+": ", "want ")
			default:
				in.refused(t, "state files, "+string(b), try{args: []string{"serve", "--timeout=1s"}}, 2, stateFile+": ", "want ")
			}
			if diff := cmp.Diff(before, in.listing(t)); diff != "" {
				t.Fatalf("%.200q: the state directory (-before +after):\n%s", text, diff)
			}
		}
		in.put(t, stateFile, string(good))
		in.figures(t)
	})
}

// wiring is the network of a pod that is wired, without what comes and goes with the time.
func (in *input) wiring(t *testing.T) string {
	t.Helper()
	var out []string
	for _, line := range []string{
		"ip -br address", "ip rule", "ip route show table all", "ip -6 route show table all", "ip neighbour show nud permanent", "tc qdisc", "tc filter show dev eth0 ingress", "nft list ruleset",
	} {
		out = append(out, in.Output(t, in.VM.Space, line))
	}
	return strings.Join(out, "\n")
}

// damaged are states that are not whole, or hold a value that cannot be.
func damaged(t *testing.T, good []byte) []string {
	t.Helper()
	out := []string{
		"", "null", "[]", "{}", "7", "\x00\x01\x02", "\xff\xfe", `{"version": 2}`, strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 20_000), strings.Repeat(" ", 17<<20),
		string(good) + "x", string(good) + string(good), strings.Replace(string(good), `"phase"`, `"phase": "applied", "Phase"`, 1),
	}
	every := 12
	if world.Long() {
		every = 1
	}
	for n := 1; n < len(bytes.TrimSpace(good)); n += 97 * every {
		out = append(out, string(good[:n]))
	}
	var whole any
	if err := json.Unmarshal(good, &whole); err != nil {
		t.Fatal(err)
	}
	seen := 0
	spoil(whole, func() {
		if seen++; seen%every != 0 {
			return
		}
		text, err := json.Marshal(whole)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	})
	return out
}

// spoil puts, in place of each value in turn, one of another kind.
func spoil(v any, try func()) {
	replaced := func(was any, set func(any)) {
		switch was.(type) {
		case map[string]any, []any:
			set("x")
		default:
			set(map[string]any{"x": 1})
		}
		try()
		set(was)
		spoil(was, try)
	}
	switch v := v.(type) {
	case map[string]any:
		for key, was := range v {
			replaced(was, func(with any) { v[key] = with })
		}
	case []any:
		for i, was := range v {
			replaced(was, func(with any) { v[i] = with })
		}
	}
}

// TestNothingIsWrittenElsewhere has somebody who may write in the state directory, as all
// containers of a pod may in an emptyDir, put something in the place of each of podwire's
// files. Whatever that leads to stays as it is.
func TestNothingIsWrittenElsewhere(t *testing.T) {
	t.Parallel()
	in := newInput(t, pod.Bridge, 5*time.Minute)
	const victim, ready = "/run/victim", stateDir + "/ready"
	before := in.Settled(t)
	for _, name := range []string{"eth0.json", "eth0.json.tmp", "eth0.sock", "serve.log", "ready"} {
		for kind, put := range map[string]string{
			"symbolic links": "ln -s " + victim + " ", "hard links": "ln " + victim + " ", "pipes": "mkfifo ", "devices": "mknod -m 666 ", "directories": "mkdir ",
			"files of others": "install -o 107 -m 600 " + victim + " ",
		} {
			if usual := strings.HasSuffix(kind, " links"); !world.Long() && !usual && name != "eth0.json" && name != "serve.log" {
				continue
			}
			in.Output(t, in.VM.Space, "rm -rf "+stateDir)
			in.Output(t, in.VM.Space, "install -d -m 777 "+stateDir)
			in.put(t, victim, "keep")
			end := map[string]string{"devices": " c 1 3"}[kind]
			in.Output(t, in.VM.Space, put+stateDir+"/"+name+end)
			in.tried[kind+" in place of a file"]++
			for _, args := range [][]string{{"prestart", "--ready-file", ready, "--timeout=5s"}, {"status"}, {"teardown"}} {
				_, said, code := in.run(t, try{args: args})
				if code < 0 || code > 2 || name == "serve.log" && code > 0 || strings.Contains(said, "bug in podwire") {
					t.Errorf("%s in place of %s: %s: %d: %s", kind, name, args[0], code, said)
				}
			}
			text, err := in.VM.ReadFile(victim)
			mode := in.Output(t, in.VM.Space, "stat -c %a,%U "+victim)
			if err != nil || string(text) != "keep" || mode != "600,root\n" && mode != "600,root" {
				t.Errorf("%s in place of %s: the other file is %q, %q, %v", kind, name, text, mode, err)
			}
			in.Output(t, in.VM.Space, "rm -rf "+stateDir+"/"+name)
			if _, said, code := in.run(t, try{args: []string{"teardown"}}); code != 0 {
				t.Errorf("%s in place of %s: teardown afterwards: %d: %s", kind, name, code, said)
			}
			if diff := cmp.Diff(before, in.Settled(t)); diff != "" {
				t.Fatalf("%s in place of %s: the pod's network (-before +after):\n%s", kind, name, diff)
			}
		}
	}
	in.figures(t)
}

// TestNothingNewIsKeptInSomebodyElsesDirectory, and nothing at all in one that is reached by
// somebody else's link.
func TestNothingNewIsKeptInSomebodyElsesDirectory(t *testing.T) {
	t.Parallel()
	in := newInput(t, pod.Bridge, time.Minute)
	in.Output(t, in.VM.Space, "install -d -o 107 /run/theirs")
	in.Output(t, in.VM.Space, "install -d /run/own")
	in.Output(t, in.VM.Space, "ln -s /run/own /run/link")
	in.Output(t, in.VM.Space, "chown -h 107 /run/link")
	in.put(t, "/run/file", "")
	in.untouched(t, func() {
		for _, command := range []string{"setup", "prestart"} {
			in.refused(t, "state directories of others", try{args: []string{command, "--state-dir=/run/theirs"}}, 2, `"/run/theirs"`, "want a directory", "--state-dir")
		}
		if _, said, code := in.run(t, try{args: []string{"teardown", "--state-dir=/run/theirs"}}); code != 0 {
			t.Errorf("there is nothing to put back: %d: %s", code, said)
		}
		for _, dir := range []string{"/run/link", "/run/file"} {
			for _, command := range []string{"setup", "prestart", "serve", "status", "teardown", "plan"} {
				in.refused(t, "state directories of others", try{args: []string{command, "--state-dir", dir}}, 2, `"`+dir+`"`, "want a directory")
			}
		}
	})
	if out := in.Output(t, in.VM.Space, "find /run/theirs /run/own -mindepth 1"); out != "" {
		t.Errorf("something was written: %s", out)
	}
	in.figures(t)
}

// TestTheGroupMayAskAndNotStop: in a pod, the VM's container shares the state directory by
// its fsGroup.
func TestTheGroupMayAskAndNotStop(t *testing.T) {
	t.Parallel()
	in := newInput(t, pod.Bridge, 2*time.Minute)
	in.Output(t, in.VM.Space, "install -d -g 107 -m 2775 "+stateDir)
	in.Prestart(t)
	if got := in.Status(t)[0]; !got.Serving {
		t.Fatalf("%+v", got)
	}
	if got := in.ask(t, 107, `{"op":"status"}`); !strings.Contains(got, `"status"`) {
		t.Errorf("the group asks how it does: %q", got)
	}
	for _, op := range []string{"stop", "reload"} {
		if got := in.ask(t, 107, `{"op":"`+op+`"}`); !strings.Contains(got, "is not for user 107") {
			t.Errorf("the group asks it to %s: %q", op, got)
		}
	}
	if got := in.ask(t, 108, `{"op":"status"}`); got != "" {
		t.Errorf("others are answered: %q", got)
	}
	if got := in.Status(t)[0]; !got.Serving {
		t.Error("it does not serve any more")
	}
}

// ask asks the server as another user does, and returns what it says; nothing where it is
// not to be reached.
func (in *input) ask(t *testing.T, user uintptr, request string) string {
	t.Helper()
	answer := make([]byte, 64<<10)
	n := 0
	err := in.VM.Do(func() error { // on a thread that is thrown away
		_, _, e1 := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
		_, _, e2 := unix.RawSyscall(unix.SYS_SETRESGID, user, user, user)
		_, _, e3 := unix.RawSyscall(unix.SYS_SETRESUID, user, user, user)
		if e1|e2|e3 != 0 {
			return errors.Join(e1, e2, e3)
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: stateDir + "/eth0.sock"}); errors.Is(err, unix.EACCES) {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := unix.Write(fd, []byte(request)); err != nil {
			return err
		}
		n, err = unix.Read(fd, answer)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(answer[:n])
}

// TestTheStateHoldsNothingSecret of what podwire can see and the guest is not told.
func TestTheStateHoldsNothingSecret(t *testing.T) {
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		in := newInput(t, b, 2*time.Minute)
		const secret = "hunter2-hunter2"
		in.VM.Setenv("DATABASE_PASSWORD", secret)
		in.VM.Setenv("PODWIRE_TOKEN", secret)
		if err := in.VM.SetResolvConf(world.ResolvConf6 + "# " + secret + "\nunknown " + secret + "\n"); err != nil {
			t.Fatal(err)
		}
		in.put(t, "/tmp/f.yaml", "# "+secret+"\nhostname: vm\n")
		in.Prestart(t, "--config=/tmp/f.yaml")
		in.run(t, try{args: []string{"hook", "other", "prepare", "begin", "-"}, stdin: strings.Replace(domain, "<name>", "<description>"+secret+"</description><name>", 1)})
		if out := in.Output(t, in.VM.Space, "find "+stateDir+" -type f"); !strings.Contains(out, stateFile) {
			t.Fatalf("there is no state: %s", out)
		}
		if out, err := in.VM.Run(in.Ctx, "grep", "-rl", secret, stateDir); err == nil {
			t.Errorf("it is in %s", out)
		}
		for _, name := range []string{stateFile, stateDir + "/serve.log"} {
			if mode := in.Output(t, in.VM.Space, "stat -c %a "+name); strings.HasSuffix(strings.TrimSpace(mode), "4") {
				t.Errorf("%s is for all to read: %s", name, mode)
			}
		}
	})
}
