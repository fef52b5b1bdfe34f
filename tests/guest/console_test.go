package guest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// connect returns a console and the guest's end of it.
func connect(t *testing.T) (context.Context, *Console, net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	path := filepath.Join(t.TempDir(), "console")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := Listen(l)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return ctx, c, conn
}

func TestConsoleFindsLinesBehindWhatFirmwareLeft(t *testing.T) {
	ctx, c, conn := connect(t)
	fmt.Fprint(conn, "\x1b[2J\x1bcBooting from ROM..podwire-guest: up kernel=6.1\r\n")
	match, err := c.WaitFor(ctx, "^podwire-guest: up kernel=(.*)$")
	if err != nil {
		t.Fatal(err)
	}
	if match[1] != "6.1" {
		t.Errorf("got %q", match[1])
	}
	if got := c.Lines()[0]; got != "Booting from ROM.." {
		t.Errorf("first line %q", got)
	}
}

func TestConsoleTellsTheQueuesOfEachNIC(t *testing.T) {
	ctx, c, conn := connect(t)
	fmt.Fprint(conn, "podwire-guest: nic name=eth0 mac=02:00:00:00:00:01 mtu=1500 queues=4\npodwire-guest: nic name=eth1 mac=02:00:00:00:00:02 mtu=1500 queues=1\n")
	for nic, want := range map[string]int{"eth0": 4, "eth1": 1} {
		if got, err := c.Queues(ctx, nic); got != want || err != nil {
			t.Errorf("%s has %d queues, %v; want %d", nic, got, err, want)
		}
	}
}

func TestConsoleThatClosesSaysWhatCameLast(t *testing.T) {
	ctx, c, conn := connect(t)
	fmt.Fprintln(conn, "Kernel panic - not syncing")
	conn.Close()
	_, err := c.WaitFor(ctx, "ready")
	if err == nil || !strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("got %v", err)
	}
}

func TestRunReturnsOutputAndStatus(t *testing.T) {
	ctx, c, conn := connect(t)
	fmt.Fprintln(conn, "podwire-guest: ready")
	if _, err := c.WaitFor(ctx, "ready"); err != nil {
		t.Fatal(err)
	}
	go func() { // the loop at the end of init
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			id, command, _ := strings.Cut(lines.Text(), " ")
			fmt.Fprintf(conn, "podwire-guest: begin %s\n$ %s\nunfinishedpodwire-guest: end %s 3\n", id, command, id)
		}
	}()
	for _, command := range []string{"ip route", "hostname"} {
		out, status, err := c.Run(ctx, command)
		if want := "$ " + command + "\nunfinished"; out != want || status != 3 || err != nil {
			t.Errorf("got %q, %d, %v; want %q, 3", out, status, err, want)
		}
	}
}

func TestLeaseHasWhatWasTold(t *testing.T) {
	lease := ParseLease("podwire-guest: lease event=bound ip=10.244.1.7 dns=10.96.0.10,10.96.0.11 router=")
	if lease["dns"] != "10.96.0.10,10.96.0.11" || lease["ip"] != "10.244.1.7" {
		t.Errorf("got %v", lease)
	}
	if _, told := lease["router"]; told {
		t.Error("an empty value counts as told")
	}
}
