package dnsforward

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsmasq starts a real nameserver on a loopback port, until the test ends. It
// knows a.test., and long.test., whose record is too long for 512 octets.
func dnsmasq(t *testing.T) netip.AddrPort {
	t.Helper()
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/dnsmasq") // which few have in their path
	}
	if err != nil && os.Getenv("CI") != "true" {
		t.Skipf("%v: hack/install.sh test installs it", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	udp, tcp := listenBoth(t)
	addr := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	udp.Close()
	tcp.Close()
	long := strings.Repeat(`,`+strings.Repeat("x", 200), 4)
	cmd := exec.Command(path, "--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--pid-file=",
		"--user=", "--group=", "--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address=127.0.0.1",
		"--port="+strconv.Itoa(int(addr.Port())), "--local=/test/", "--host-record=a.test,192.0.2.7", "--txt-record=long.test"+long)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("dnsmasq:\n%s", log.String())
		}
	})
	until(t, "dnsmasq listens", func() bool {
		conn, err := net.Dial("tcp", addr.String())
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return addr
}

func TestBeforeARealNameserver(t *testing.T) {
	g := serve(t, nil, dnsmasq(t))
	address := ask(1, "a.test.", 0)
	address[len(address)-3] = byte(dnsmessage.TypeA)
	tests := []struct {
		name      string
		get       func([]byte) []byte
		question  []byte
		rcode     dnsmessage.RCode
		answers   int
		truncated bool
	}{
		{"an address", g.udp, address, 0, 1, false},
		{"an address over TCP", g.tcp, address, 0, 1, false},
		{"a name that is not there", g.udp, ask(2, "no.test.", 1232), dnsmessage.RCodeNameError, 0, false},
		{"a long record, without EDNS", g.udp, ask(3, "long.test.", 0), 0, 0, true},
		{"a long record, with EDNS", g.udp, ask(4, "long.test.", 1232), 0, 1, false},
		{"a long record over TCP", g.tcp, ask(5, "long.test.", 0), 0, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m dnsmessage.Message
			if err := m.Unpack(tt.get(tt.question)); err != nil {
				t.Fatal(err)
			}
			if m.RCode != tt.rcode || len(m.Answers) != tt.answers || m.Truncated != tt.truncated {
				t.Errorf("%+v, %d records; want %v, %d, truncated %v", m.Header, len(m.Answers), tt.rcode, tt.answers, tt.truncated)
			}
		})
	}
}
