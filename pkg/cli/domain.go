package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/domxml"
	"github.com/podwire/podwire/pkg/record"
)

func domainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "domain [FILE]",
		Short:             "print the libvirt interface, or FILE's domain with it put in",
		Long:              "Print the libvirt <interface> element of each wired interface, or the domain in FILE (- for\nstandard input) with them put in; all else in it stays as it is, to the letter. Before setup,\nit is what setup would make. Changes nothing, needs no capability.",
		Args:              atMostOne,
		ValidArgsFunction: cobra.FixedCompletions([]cobra.Completion{"xml"}, cobra.ShellCompDirectiveFilterFileExt),
	}
	AddFlags(cmd, config.Setup)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return run(func(ctx context.Context, cmd *cobra.Command, a *Agent) error {
			devices, err := a.planned(ctx)
			if err != nil {
				return err
			}
			text, err := domainText(cmd.InOrStdin(), args, devices)
			if err != nil {
				return usageError{err}
			}
			_, err = io.WriteString(cmd.OutOrStdout(), strings.TrimRight(text, "\n")+"\n")
			return err
		})(cmd, args)
	}
	return cmd
}

func domainText(stdin io.Reader, args []string, devices []domxml.Device) (string, error) {
	if len(args) == 0 {
		var all []string
		for _, d := range devices {
			element, err := domxml.Element(d.Interface, d.Card)
			if err != nil {
				return "", err
			}
			all = append(all, element)
		}
		return strings.Join(all, "\n"), nil
	}
	text, err := ReadInput(stdin, args[0])
	if err != nil {
		return "", err
	}
	return domxml.Put(text, devices)
}

// ReadInput reads a file, or standard input where its name is "-".
func ReadInput(stdin io.Reader, name string) (string, error) {
	var text []byte
	var err error
	if name == "-" {
		text, err = readUpTo(stdin, maxDomain)
	} else {
		text, err = readFile(name, maxDomain)
	}
	if err != nil {
		return "", &config.Error{Source: "DOMAIN", Value: name, Want: "a file with a domain's XML: " + err.Error()}
	}
	return string(text), nil
}

// planned returns the domain's network cards for the interfaces that are wired or
// would be.
func (a *Agent) planned(ctx context.Context) ([]domxml.Device, error) {
	jobs, err := a.taking(record.ErrTheirs).current(ctx)
	if err != nil {
		return nil, err
	}
	records := make([]record.Record, len(jobs))
	for i, j := range jobs {
		records[i] = j.record
	}
	return a.devices(records), nil
}

// device is the domain's network card for an interface: as setup was told, but for
// what is given now. The wiring does not depend on it.
func (a *Agent) device(r record.Record) domxml.Device {
	c := a.config.Over(r.Config)
	d := domxml.Device{Interface: r.Interface, Card: domxml.Card{Model: c.Model, Vhost: c.Vhost, PCIAddress: c.PCIAddress}}
	if d.Binding == config.Macvtap {
		d.Queues = c.Queues // it is not made with a number of them
	}
	return d
}

func (a *Agent) devices(records []record.Record) []domxml.Device {
	out := make([]domxml.Device, len(records))
	for i, r := range records {
		out[i] = a.device(r)
	}
	return out
}
