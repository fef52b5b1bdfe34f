package soak

import (
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/fault"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// trouble is something that goes wrong, and is put right again where it has to be.
type trouble struct {
	name string
	// inject returns what the guest's next lease has to say, or nothing.
	inject func(s *soak, t *testing.T) (told string)
	not    func(b pod.Binding) bool // for which bindings it is not; nil for none
}

const stateDir = "/run/podwire"

// frozen is how long a server is stopped: longer than a client waits before it asks again.
const frozen = 1500 * time.Millisecond

var troubles = []trouble{
	{name: "the server is killed", inject: func(s *soak, t *testing.T) string {
		s.killServer(t)
		s.serve(t)
		return ""
	}},
	{name: "the server is frozen", inject: func(s *soak, t *testing.T) string {
		s.signal(t, syscall.SIGSTOP)
		select {
		case <-time.After(frozen):
		case <-s.Ctx.Done():
		}
		s.signal(t, syscall.SIGCONT)
		return ""
	}},
	{name: "a second server is started", inject: func(s *soak, t *testing.T) string {
		s.fails(t, "already served", "serve")
		return ""
	}},
	{name: "the tap goes down", inject: func(s *soak, t *testing.T) string {
		s.flap(t, "tap-eth0")
		s.Podwire(t, "setup") // what of the pod's network was lost by it, such as addresses
		return ""
	}},
	{name: "the pod interface goes down", not: pod.Binding.Keeps, // it would lose its routes for good
		inject: func(s *soak, t *testing.T) string {
			s.flap(t, "eth0")
			return ""
		}},
	{name: "the tap's filter is deleted", inject: func(s *soak, t *testing.T) string {
		s.Output(t, s.VM.Space, "tc filter delete dev tap-eth0 ingress")
		s.wantDrift(t, "is gone")
		s.Podwire(t, "setup")
		s.wantDrift(t, "")
		return ""
	}},
	{name: "setup has other nameservers", inject: func(s *soak, t *testing.T) string {
		s.dns = fmt.Sprintf("10.96.0.%d", 11+s.did["setup has other nameservers"]%200)
		s.Podwire(t, "setup", "--dns", s.dns)
		return " dns=" + s.dns + " "
	}},
	{name: "the state directory is read-only", inject: func(s *soak, t *testing.T) string {
		s.remount(t, syscall.MS_RDONLY)
		s.fails(t, "read-only file system", "setup", "--dns", "10.96.0.250")
		s.remount(t, 0)
		return s.told()
	}},
	{name: "setup is killed, and run again", inject: func(s *soak, t *testing.T) string {
		s.dns = fmt.Sprintf("10.96.1.%d", 11+s.did["setup is killed, and run again"]%200)
		s.faulty(t, fault.Verdict{Kill: true}, "setup", "--dns", s.dns)
		s.Podwire(t, "setup", "--dns", s.dns)
		return s.told()
	}},
	{name: "a call fails of a setup that repairs", inject: func(s *soak, t *testing.T) string {
		s.Output(t, s.VM.Space, "tc filter delete dev tap-eth0 ingress")
		s.faulty(t, fault.Verdict{Errno: unix.ENOBUFS}, "setup")
		s.Podwire(t, "setup")
		s.wantDrift(t, "")
		return ""
	}},
	{name: "the CNI plugin changes the MTU", inject: func(s *soak, t *testing.T) string {
		const mtu = "1400"
		s.Output(t, s.VM.Space, "ip link set eth0 mtu "+mtu)
		s.wantDrift(t, "MTU of "+mtu)
		s.renewed(t, "the MTU was changed", " mtu="+mtu+" ")
		s.Output(t, s.VM.Space, fmt.Sprintf("ip link set eth0 mtu %d", world.PodMTU))
		s.wantDrift(t, "")
		return fmt.Sprintf(" mtu=%d ", world.PodMTU)
	}},
	{name: "the guest gives its lease back", inject: func(s *soak, t *testing.T) string {
		s.inGuest(t, fmt.Sprintf("kill -USR2 $(cat /run/udhcpc.%s.pid)", s.nic))
		return ""
	}},
}

// told is what the guest is told since somebody changed it.
func (s *soak) told() string {
	if s.dns == "" {
		return ""
	}
	return " dns=" + s.dns + " "
}

func (s *soak) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.server.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func (s *soak) flap(t *testing.T, link string) {
	t.Helper()
	s.Output(t, s.VM.Space, "ip link set "+link+" down")
	s.Output(t, s.VM.Space, "ip link set "+link+" up")
}

// fails runs podwire, which must fail and say why.
func (s *soak) fails(t *testing.T, why string, args ...string) {
	t.Helper()
	program, err := s.Dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.VM.RunCmd(exec.CommandContext(s.Ctx, program, args...))
	if err == nil || !strings.Contains(out+err.Error(), why) {
		t.Fatalf("podwire %v: %v, want one that says %q\n%s", args, err, why, out)
	}
}

// points is about how many calls that change something a setup of a wired pod makes.
const points = 40

// faulty runs podwire, of which one call ends otherwise: another one each time.
func (s *soak) faulty(t *testing.T, v fault.Verdict, args ...string) {
	t.Helper()
	program, err := s.Dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	s.tried++
	at := 1 + s.tried*7%points // which is reached or not, and all of them are in the end
	var reached atomic.Pointer[fault.Call]
	if _, err = fault.Run(s.VM.Space, fault.Changing, exec.Command(program, args...), fault.At(at, v, &reached)); err != nil {
		t.Fatal(err)
	}
}

// wantDrift wants the status to name what differs, or that nothing does.
func (s *soak) wantDrift(t *testing.T, want string) {
	t.Helper()
	program, err := s.Dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	out, _ := s.VM.Run(s.Ctx, program, "status", "-o", "json") // its exit code says that there is drift
	if want == "" && !strings.Contains(out, `"drift": []`) || !strings.Contains(out, want) {
		t.Fatalf("the status, which is to say %q, is\n%s", want, out)
	}
}

// bindState makes the state directory a mount of its own, which can be remounted.
func (s *soak) bindState(t *testing.T) {
	t.Helper()
	if err := s.VM.Do(func() error { return syscall.Mount(stateDir, stateDir, "", syscall.MS_BIND, "") }); err != nil {
		t.Fatal(err)
	}
}

func (s *soak) remount(t *testing.T, flags uintptr) {
	t.Helper()
	err := s.VM.Do(func() error {
		return syscall.Mount("", stateDir, "", syscall.MS_REMOUNT|syscall.MS_BIND|flags, "")
	})
	if err != nil {
		t.Fatal(err)
	}
}
