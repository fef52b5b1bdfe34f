package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/podwire/podwire/pkg/cni"
	"github.com/podwire/podwire/pkg/config"
)

const cniHelp = `podwire as a CNI plugin wires a VM pod from the node, when its sandbox is made: then the pod
needs NET_ADMIN nowhere and has no init container. It is chained after the plugin that makes
the pod's interface, and wires the pods that ask for it:

  metadata:
    annotations:
      podwire.io/wire: "true"
      podwire.io/tap-owner: "107:107"    # and other settings, see below
  spec:
    volumes: [{name: podwire, emptyDir: {}}]    # mounted at /run/podwire in the container
                                                # that runs "podwire serve"

Of the settings of "podwire setup" a pod may say these:

%s

The container runtime calls it, with CNI_COMMAND in the environment. These commands put it on
a node and take it away again.

Their flags can come from the environment, as PODWIRE_ and the flag's name (--bin-dir is
PODWIRE_BIN_DIR); a flag beats the environment.`

const installHelp = `Copy this program into the directory of the CNI plugins, and put it at the end of the list that
the container runtime uses: the first of the configuration directory. All else in that file
stays as it is written. A second run changes nothing.

With --watch it looks again every second, until SIGTERM, since the DaemonSet of the
node's own CNI may write its file anew; and it waits where there is none yet. What it installed
stays at its end: pods that are wired need the plugin when they go.

Settings given here hold for all pods of the node; a pod's annotations beat them.

--wire all is for runtimes that hand over no annotations (CRI-O before 1.29, and such as are not
of Kubernetes). In Kubernetes every pod is wired that has the emptyDir "podwire" and does not
refuse by its annotation; a pod without it is let through as it is, and one that wires itself
must call its volume otherwise. Without Kubernetes every container of the network is wired.

CRI-O has the plugins check a pod right after they made it (CNI CHECK), and those before podwire
then miss the addresses that the VM has: it needs --disable-check. containerd does not.`

const uninstallHelp = `Take podwire out of the lists of the configuration directory, then remove the program. Wired
pods that are still there need it when they go: remove them first.

A lone configuration that install made a list of comes back, unless that list was changed since.

With --watch it looks again every second, until SIGTERM, and takes away what comes back. It is
what manifests/cni-uninstall runs on each node.`

func cniCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cni",
		Short: "put the CNI plugin on a node, or take it away",
		Long:  fmt.Sprintf(cniHelp, settingNames()),
		Args:  unknown,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(cniInstallCommand(), cniUninstallCommand(), cniConfigCommand())
	return cmd
}

// settingNames are those of the settings that a pod may have, a few on a line.
func settingNames() string {
	var names, lines []string
	for _, f := range config.PodFields() {
		names = append(names, f.Name)
	}
	for some := range slices.Chunk(names, 8) {
		lines = append(lines, "  "+strings.Join(some, ", "))
	}
	return strings.Join(lines, ",\n")
}

// nodeFlags are those of install and uninstall: where a node has what, and how often
// it is looked at.
type nodeFlags struct {
	binDir, confDir string
	watch, check    bool
}

func (f *nodeFlags) add(cmd *cobra.Command, watch, check string) {
	flags := cmd.Flags()
	flags.StringVar(&f.binDir, "bin-dir", "/opt/cni/bin", "`DIR` of the CNI plugins")
	flags.StringVar(&f.confDir, "conf-dir", "/etc/cni/net.d", "`DIR` of their configuration")
	flags.BoolVar(&f.watch, "watch", false, watch)
	flags.BoolVar(&f.check, "check", false, check)
	_ = cmd.MarkFlagDirname("bin-dir")
	_ = cmd.MarkFlagDirname("conf-dir")
	flags.SortFlags = false
}

func (f *nodeFlags) node(cmd *cobra.Command) (*node, error) {
	if !filepath.IsAbs(f.binDir) || !filepath.IsAbs(f.confDir) {
		return nil, usageError{errors.New("--bin-dir and --conf-dir: want absolute paths")}
	}
	log := Logger(config.Default(), cmd.ErrOrStderr())
	return &node{binDir: f.binDir, confDir: f.confDir, log: log}, nil
}

// run does it once, or again and again; with --check it does nothing, and there being
// something to do is the error unlike.
func (f *nodeFlags) run(ctx context.Context, n *node, do func(dryRun bool) (bool, error), unlike error) error {
	if f.watch && !f.check {
		n.watch(ctx, do)
		return nil
	}
	changed, err := soon(ctx, f.check, do)
	if err == nil && f.check && changed {
		return unlike
	}
	return err
}

var errNotInstalled = errors.New("the plugin is not installed like this")

func cniInstallCommand() *cobra.Command {
	var where nodeFlags
	var entry entryFlags
	cmd := &cobra.Command{Use: "install", Short: "install the CNI plugin on this node", Long: installHelp, Args: noArgs}
	where.add(cmd, "install it again whenever somebody changed it, until SIGTERM",
		"change nothing; exit with 1 where it is not installed like this")
	entry.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := fromEnvironment(cmd.Flags()); err != nil {
			return err
		}
		n, err := where.node(cmd)
		if err != nil {
			return err
		}
		if n.entry, err = entry.entry(); err != nil {
			return err
		}
		return where.run(cmd.Context(), n, n.install, errNotInstalled)
	}
	return cmd
}

func cniUninstallCommand() *cobra.Command {
	var where nodeFlags
	cmd := &cobra.Command{Use: "uninstall", Short: "take the CNI plugin away from this node", Long: uninstallHelp, Args: noArgs}
	where.add(cmd, "take it away again whenever it comes back, until SIGTERM",
		"change nothing; exit with 1 where anything of it is there")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := fromEnvironment(cmd.Flags()); err != nil {
			return err
		}
		n, err := where.node(cmd)
		if err != nil {
			return err
		}
		return where.run(cmd.Context(), n, n.uninstall, errLeft)
	}
	return cmd
}

func cniConfigCommand() *cobra.Command {
	var entry entryFlags
	cmd := &cobra.Command{
		Use: "config", Short: "print the plugin's entry for a list of plugins",
		Long: "Print the entry that install puts into a list of plugins, for lists that are made in other ways.", Args: noArgs,
	}
	entry.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := fromEnvironment(cmd.Flags()); err != nil {
			return err
		}
		e, err := entry.entry()
		if err == nil {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), e)
		}
		return err
	}
	return cmd
}

// entryFlags are those that shape the plugin's entry.
type entryFlags struct {
	wire, kubeletDir, log string
	namespaces            []string
	disableCheck          bool
	settings              []*flagValue
}

func (f *entryFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.wire, "wire", "", "which pods are wired, `annotated|all`: those that ask by annotation; or all that have the volume, without Kubernetes every container (default annotated)")
	flags.StringArrayVar(&f.namespaces, "namespace", nil, "`NAME` of a Kubernetes namespace whose pods may ask, repeatable (default: all)")
	flags.StringVar(&f.kubeletDir, "kubelet-dir", "", "`DIR` of the kubelet on the node (default "+cni.DefaultKubeletDir+")")
	flags.StringVar(&f.log, "log", "", "`FILE` on the node that the plugin logs to (default: the runtime's log, warnings alone)")
	flags.BoolVar(&f.disableCheck, "disable-check", false, "have the runtime check no pods, as CRI-O does after it made one")
	_ = cmd.RegisterFlagCompletionFunc("wire", cobra.FixedCompletions([]string{"annotated", "all"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("namespace", cobra.NoFileCompletions)
	for _, field := range config.PodFields() {
		v := &flagValue{field: field}
		f.settings = append(f.settings, v)
		flags.Var(v, field.Name, field.Usage)
		complete(cmd, field)
	}
	flags.SortFlags = false
}

func (f *entryFlags) entry() (cni.Entry, error) {
	e := cni.NewEntry()
	e.Wire, e.Namespaces, e.KubeletDir, e.Log, e.DisabledCheck = cni.Wire(f.wire), f.namespaces, f.kubeletDir, f.log, f.disableCheck
	given := f.given(os.Environ())
	c := config.Default()
	if err := c.Apply(given...); err != nil {
		return e, err
	}
	for _, s := range given {
		if e.Settings == nil {
			e.Settings = map[string]any{}
		}
		if len(s.Values) == 1 {
			e.Settings[s.Field] = s.Values[0]
		} else {
			e.Settings[s.Field] = s.Values
		}
	}
	if err := e.Validate(); err != nil {
		return e, usageError{err}
	}
	return e, nil
}

// given are the settings that the flags say, and of the others those that the
// environment says.
func (f *entryFlags) given(environ []string) []config.Setting {
	var given []config.Setting
	fromEnv := config.FromEnv(environ)
	for _, v := range f.settings {
		if len(v.values) > 0 {
			given = append(given, config.FromFlag(v.field, v.values))
			continue
		}
		if i := slices.IndexFunc(fromEnv, func(s config.Setting) bool { return s.Field == v.field.Name }); i >= 0 {
			given = append(given, fromEnv[i])
		}
	}
	return given
}

// fromEnvironment gives the flags that the command line does not give what the
// environment says, but for the settings, which read it themselves. An empty variable
// counts as unset.
func fromEnvironment(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		name := config.Field{Name: f.Name}.Env()
		value := os.Getenv(name)
		if _, setting := f.Value.(*flagValue); setting || f.Changed || value == "" || err != nil {
			return
		}
		values := []string{value}
		if f.Value.Type() == "stringArray" {
			values = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
		}
		for _, v := range values {
			if f.Value.Set(v) != nil { // which only a switch refuses
				err = usageError{&config.Error{Source: name, Value: v, Want: "true or false"}}
			}
		}
	})
	return err
}
