package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fake puts a shell script on PATH as kubectl. What it does with its arguments is
// the test's.
func fake(t *testing.T, script string) *Cluster {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return &Cluster{Kubeconfig: "some/config", Dir: dir}
}

func TestKubectlIsRunWithTheKubeconfig(t *testing.T) {
	c := fake(t, `echo "$@"`)
	got, err := c.Exec(t.Context(), "ns", "vm", "podwire", "/podwire", "status")
	if err != nil {
		t.Fatal(err)
	}
	if want := "--kubeconfig some/config exec --namespace ns vm --container podwire -- /podwire status\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnErrorHasWhatKubectlSaid(t *testing.T) {
	c := fake(t, `echo "pods vm not found" >&2; exit 1`)
	_, err := c.Pod(t.Context(), "ns", "vm")
	failed, ok := errors.AsType[*Error](err)
	if !ok || !strings.Contains(failed.Stderr, "not found") || !strings.Contains(err.Error(), "kubectl get --namespace ns pod vm") {
		t.Errorf("got %v", err)
	}
}

func TestAnErrorSaysWhatTheTimeWasFor(t *testing.T) {
	c := fake(t, "exec sleep 60")
	cause := errors.New("five minutes are over")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, cause)
	defer cancel()
	if _, err := c.Kubectl(ctx, "version"); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

func TestApplyHandsTheManifestsOver(t *testing.T) {
	c := fake(t, `cat >applied`)
	if err := c.Apply(t.Context(), "kind: Pod\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(c.Dir, "applied")); err != nil || string(got) != "kind: Pod\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestEndpointsAreThoseThatAreReady(t *testing.T) {
	c := fake(t, `cat <<'END'
{"items":[{"endpoints":[
 {"addresses":["10.0.0.1"],"conditions":{"ready":true}},
 {"addresses":["10.0.0.2"],"conditions":{"ready":false}},
 {"addresses":["10.0.0.3"],"conditions":{}}]}, {}]}
END`)
	got, err := c.Endpoints(t.Context(), "ns", "vm")
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.3")}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("Endpoints (-want +got):\n%s", diff)
	}
}

const podJSON = `{"metadata":{"name":"vm","uid":"u1"},
"spec":{"terminationGracePeriodSeconds":60,"initContainers":[{"name":"podwire","restartPolicy":"Always","securityContext":{"runAsUser":107}}],"containers":[{"name":"vm"}]},
"status":{"phase":"Running","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"}],
"conditions":[{"type":"Ready","status":"False","message":"containers with unready status: [vm]"}],
"initContainerStatuses":[{"name":"podwire","restartCount":1}],
"containerStatuses":[{"name":"vm","state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}}`

func TestPodSaysHowItDoes(t *testing.T) {
	var pod Pod
	if err := json.Unmarshal([]byte(podJSON), &pod); err != nil {
		t.Fatal(err)
	}
	if pod.UID != "u1" || pod.Ready() || pod.Spec.GracePeriod != 60 || pod.Status.PodIPs[0].IP != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("got %+v", pod)
	}
	if s, ok := pod.Container("podwire"); !ok || s.RestartCount != 1 {
		t.Errorf("Container(podwire) = %+v, %v", s, ok)
	}
	if _, ok := pod.Container("other"); ok {
		t.Error("there is no other container")
	}
	if want := "phase Running; not Ready containers with unready status: [vm]; vm waits: CrashLoopBackOff"; pod.Why() != want {
		t.Errorf("Why() = %q, want %q", pod.Why(), want)
	}
	pod.Status.Conditions[0].Status = "True"
	now := time.Now()
	if !pod.Ready() {
		t.Error("a Ready pod is not Ready")
	}
	if pod.DeletionTimestamp = &now; pod.Ready() {
		t.Error("a pod that is being deleted is Ready")
	}
}

func TestAnEphemeralContainerHasTheUserOfItsTarget(t *testing.T) {
	var pod map[string]any
	if err := json.Unmarshal([]byte(podJSON), &pod); err != nil {
		t.Fatal(err)
	}
	if err := addEphemeral(pod, "podwire", map[string]any{"name": "kill"}); err != nil {
		t.Fatal(err)
	}
	want := []any{map[string]any{
		"name": "kill", "targetContainerName": "podwire", "imagePullPolicy": "IfNotPresent",
		"securityContext": map[string]any{"runAsUser": 107.0},
	}}
	if diff := cmp.Diff(want, pod["spec"].(map[string]any)["ephemeralContainers"]); diff != "" {
		t.Errorf("ephemeralContainers (-want +got):\n%s", diff)
	}
	if err := addEphemeral(pod, "other", map[string]any{}); err == nil {
		t.Error("there is no other container")
	}
}

func TestPollReturnsTheLastAnswer(t *testing.T) {
	answer := errors.New("not yet")
	asked := 0
	err := Poll(t.Context(), time.Millisecond, func(context.Context) error {
		if asked++; asked < 3 {
			return answer
		}
		return nil
	})
	if err != nil || asked != 3 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	err = Poll(ctx, time.Millisecond, func(context.Context) error { return answer })
	if !errors.Is(err, answer) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestPortForwardSaysWhereItListens(t *testing.T) {
	c := fake(t, `echo "Forwarding from 127.0.0.1:4711 -> 80"; exec sleep 60`)
	f, err := c.PortForward(t.Context(), "ns", "vm", 80)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Addr != "127.0.0.1:4711" {
		t.Errorf("Addr = %q", f.Addr)
	}
}

func TestFollowEndsWithTheContainer(t *testing.T) {
	c := fake(t, `echo one; echo two`)
	s, err := c.Follow(t.Context(), "ns", "vm", "vm")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if text, err := s.Wait(t.Context()); err != nil || text != "one\ntwo\n" {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestCollectWritesDownWhatCannotBeHad(t *testing.T) {
	c := fake(t, `case "$*" in
*"pods -o json") echo '{"items":[{"metadata":{"name":"vm","namespace":"ns"},"spec":{"containers":[{"name":"vm"}]},"status":{"containerStatuses":[{"name":"vm","restartCount":1}]}}]}' ;;
*--previous) echo "no such log" >&2; exit 1 ;;
*) echo "$@" ;;
esac`)
	dir := filepath.Join(t.TempDir(), "split")
	if err := c.Collect(t.Context(), dir, "ns"); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"all.txt": "get all", "nodes.txt": "describe nodes", "events.txt": "get events", "describe.txt": "describe pods",
		"log-vm-vm.txt": "logs --namespace ns vm", "log-vm-vm-previous.txt": "no such log",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: got %q, %v", file, got, err)
		}
	}
}
