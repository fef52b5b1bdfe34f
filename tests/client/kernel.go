package client

import (
	"context"
	"strings"
)

const noOptions = "the kernel takes routes and the MTU from router advertisements; the rest is for programs"

// kernelDriver is the kernel's own handling of router advertisements, with nothing
// else in the guest.
var kernelDriver = Driver{
	Name: "kernel", Kernel: true,
	Cannot: always(map[string]string{
		Address: "the prefix is not for autoconfiguration: addresses come by DHCPv6",
		DNS:     noOptions, Search: noOptions, Hostname: noOptions,
	}),
	Version: version(`(\S+)`, func(Guest) ([]string, error) { return []string{"uname", "-r"}, nil }),
	Run: func(ctx context.Context, g Guest) (Told, error) {
		return poll(ctx, "routes by router advertisement", func() (Told, bool, error) {
			told, err := kernelTold(ctx, g.Space, g.Link, false)
			return told, err == nil && told[Default] != "" && told[Prefix] != "" && !strings.Contains(told[Default], " "), err
		})
	},
}
