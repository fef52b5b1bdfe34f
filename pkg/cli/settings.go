package cli

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/podwire/podwire/pkg/config"
)

const configFlag = "config"

// AddFlags gives a command the flags of the common settings and of the groups.
func AddFlags(cmd *cobra.Command, groups ...config.Group) {
	defaults := defaultTexts()
	for _, f := range config.Fields() {
		if f.Group != config.Common && !slices.Contains(groups, f.Group) {
			continue
		}
		usage := f.Usage
		if text, ok := defaults[f.Name]; ok {
			usage += " (default " + text + ")"
		}
		v := &flagValue{field: f}
		flag := cmd.Flags().VarPF(v, f.Name, f.Short, usage)
		if f.Switch() {
			flag.NoOptDefVal = "true"
		}
		complete(cmd, f)
	}
	cmd.Flags().Var(&onceText{}, configFlag, "`FILE` with settings, YAML or JSON, keyed by the flags' names (environment: PODWIRE_CONFIG)")
	_ = cmd.MarkFlagFilename(configFlag, "yaml", "yml", "json")
	cmd.Flags().SortFlags = false
}

// complete gives a flag the completion that fits its value. The calls fail only
// for flags that do not exist.
func complete(cmd *cobra.Command, f config.Field) {
	switch {
	case f.Name == "interface":
		_ = cmd.RegisterFlagCompletionFunc(f.Name, interfaceNames)
	case f.Name == "network-status":
		_ = cmd.MarkFlagFilename(f.Name)
	case f.Name == "state-dir":
		_ = cmd.MarkFlagDirname(f.Name)
	case len(f.Values) > 0:
		_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(f.Values, cobra.ShellCompDirectiveNoFileComp))
	}
}

func interfaceNames(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	links, _ := net.Interfaces()
	for _, l := range links {
		if l.Flags&net.FlagLoopback == 0 {
			names = append(names, l.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// defaultTexts are the defaults that the help shows; where a setting's default is
// more than a value its usage says it.
func defaultTexts() map[string]string {
	d := config.Default()
	return map[string]string{
		"binding": string(d.Binding), "state-dir": d.StateDir, "output": d.Output, "log-format": d.LogFormat,
		"log-level": d.LogLevel, "timeout": d.Timeout.String(), "queues": fmt.Sprint(d.Queues),
		"resolv-conf": d.ResolvConf, "confine": d.Confine, "connect": d.Connect, "grace-period": d.GracePeriod.String(),
	}
}

// flagValue keeps what was given as text: package config parses it, as it does
// what comes from the environment and from a file.
type flagValue struct {
	field  config.Field
	values []string
}

func (v *flagValue) Set(s string) error {
	v.values = append(v.values, s)
	return nil
}

func (v *flagValue) String() string { return "" }

func (v *flagValue) Type() string {
	if v.field.Switch() {
		return "bool" // which the help shows without a value
	}
	return v.field.Arg
}

// IsBoolFlag lets a switch stand without a value.
func (v *flagValue) IsBoolFlag() bool { return v.field.Switch() }

// Load returns the settings of a command: its flags, over the environment, over
// the file, over the defaults.
func Load(cmd *cobra.Command) (config.Config, error) {
	c := config.Default()
	settings, err := fileSettings(cmd)
	if err != nil {
		return c, err
	}
	settings = append(settings, config.FromEnv(os.Environ())...)
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if v, ok := f.Value.(*flagValue); ok {
			settings = append(settings, config.FromFlag(v.field, v.values))
		}
	})
	if err := c.Apply(settings...); err != nil {
		return c, err
	}
	if err := c.Check(); err != nil {
		return c, usageError{err}
	}
	return c, nil
}

// onceText is a flag that is no setting itself.
type onceText struct{ values []string }

func (v *onceText) Set(s string) error {
	v.values = append(v.values, s)
	return nil
}

func (v *onceText) String() string { return strings.Join(v.values, ",") }

func (v *onceText) Type() string { return "string" }

func fileSettings(cmd *cobra.Command) ([]config.Setting, error) {
	source, path := "PODWIRE_CONFIG", os.Getenv("PODWIRE_CONFIG")
	given, ok := cmd.Flags().Lookup(configFlag).Value.(*onceText)
	switch {
	case ok && len(given.values) > 0:
		source, path = "--"+configFlag, given.String()
	case path == "":
		return nil, nil
	}
	if ok && len(given.values) > 1 {
		return nil, &config.Error{Source: source, Value: path, Want: "one file"}
	}
	text, err := readFile(path, config.MaxFile)
	if err != nil {
		return nil, &config.Error{Source: source, Value: path, Want: "a file of settings: " + err.Error()}
	}
	settings, err := config.FromFile(path, text)
	if err != nil {
		return nil, usageError{err}
	}
	return settings, nil
}

// Logger returns the log that the settings ask for.
func Logger(c config.Config, w io.Writer) *slog.Logger {
	var level slog.Level
	// config allows the names that slog knows and no others.
	_ = level.UnmarshalText([]byte(strings.ToUpper(c.LogLevel)))
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
