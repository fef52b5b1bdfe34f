package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"

	"github.com/podwire/podwire/tests/pod"
)

// IPXEScript is what iPXE is to be booted with: it says what it was told. Settings
// that it does not have, or was not given, are empty.
const IPXEScript = `#!ipxe
echo podwire-ipxe version=${version}
echo podwire-ipxe address=${net0/ip}
echo podwire-ipxe mask=${net0/netmask}
echo podwire-ipxe default=${net0/gateway}
echo podwire-ipxe dns=${net0/dns}
echo podwire-ipxe address6=${net0/ip6}
echo podwire-ipxe mask6=${net0/len6}
echo podwire-ipxe default6=${net0/gateway6}
echo podwire-ipxe dns6=${net0/dns6}
echo podwire-ipxe search=${net0/dnssl}
echo podwire-ipxe mtu=${net0/mtu}
echo podwire-ipxe hostname=${net0/hostname}
echo podwire-ipxe end=yes
poweroff
`

// IPXECannot are the columns that iPXE has no means for in a family, and why.
func IPXECannot(ipv4 bool) map[string]string {
	if ipv4 {
		return map[string]string{Routes: "it asks for no classless routes (RFC 3442): it talks to its boot server by the first router"}
	}
	return map[string]string{
		Prefix:   "newer versions show the length of DHCPv6's address alone, which is 128",
		Routes:   "it takes a default router from router advertisements, and no other route",
		MTU:      "it takes no MTU from router advertisements",
		Hostname: "it sends DHCPv6 no name, and so is told none (RFC 4704 §4)",
	}
}

// ipxeSays matches the lines of the script.
var ipxeSays = regexp.MustCompile(`podwire-ipxe ([a-z0-9]+)=([^\x1b\r\n]*)`)

// IPXE starts a machine without a disk on a tap of a space, which boots by QEMU's
// own network boot ROM, and returns what the script that it fetched said of a family.
// The ROM is for PCs.
func IPXE(ctx context.Context, space *pod.Space, tap, mac string, ipv4 bool) (told Told, version string, err error) {
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "64", "-nodefaults", "-no-user-config",
		"-nographic", "-serial", "stdio", // the firmware writes to both screens
		"-netdev", "tap,id=pod,vhost=off,script=no,downscript=no,ifname="+tap,
		"-device", "virtio-net-pci,netdev=pod,bootindex=1,mac="+mac)
	var log pod.Log
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = space.Start(cmd)
	}
	if err != nil {
		return nil, "", fmt.Errorf("starting QEMU: %w", err)
	}
	said, screen, err := ipxeTold(out)
	err = errors.Join(err, context.Cause(ctx))
	_ = cmd.Process.Kill() // it may have powered off
	_ = cmd.Wait()
	if err != nil {
		return nil, "", fmt.Errorf("booting iPXE: %w\n%s\n%s", err, log.String(), screen)
	}
	told = Told{Search: names(said["search"]), MTU: said["mtu"], Hostname: said["hostname"]}
	if ipv4 {
		told[Address], told[Prefix] = said["address"], onLink(said["address"], bits(said["mask"]))
		told[Default], told[DNS] = said["default"], said["dns"]
	} else {
		told[Address], told[Prefix] = said["address6"], onLink(said["address6"], said["mask6"])
		told[Default], told[DNS] = said["default6"], said["dns6"]
	}
	return told, said["version"], nil
}

// ipxeTold reads the serial line up to the script's end.
func ipxeTold(out io.Reader) (said map[string]string, screen string, err error) {
	said = map[string]string{}
	var all strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&all, lines.Text())
		for _, match := range ipxeSays.FindAllStringSubmatch(lines.Text(), -1) {
			if match[1] == "end" {
				return said, all.String(), nil
			}
			said[match[1]] = strings.TrimSpace(match[2])
		}
	}
	return said, all.String(), errors.New("it ended before its script did")
}
