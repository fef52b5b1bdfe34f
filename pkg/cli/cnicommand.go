package cli

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/podwire/podwire/pkg/cni"
	"github.com/podwire/podwire/pkg/config"
)

const cniHelp = `podwire as a CNI plugin wires a VM pod from the node, when its sandbox is made: then the pod
needs NET_ADMIN nowhere and has no init container. It is chained after the plugin that makes
the pod's interface, and wires the pods that ask for it:

  metadata:
    annotations:
      podwire.io/wire: "true"
      podwire.io/tap-owner: "107:107"    # any setting of setup, but those that name paths
  spec:
    volumes: [{name: podwire, emptyDir: {}}]    # mounted at /run/podwire in the container
                                                # that runs "podwire serve"

The container runtime calls it, with CNI_COMMAND in the environment. These commands put it on
a node and take it away again.`

const installHelp = `Copy this program into the directory of the CNI plugins, and put it at the end of the list that
the container runtime uses: the first of the configuration directory. All else in that file
stays as it is written. A second run changes nothing.

With --watch it looks again every second, until SIGTERM, since the DaemonSet of the
node's own CNI may write its file anew; and it waits where there is none yet. What it installed
stays at its end: pods that are wired need the plugin when they go.

Settings given here hold for all pods of the node; a pod's annotations beat them.

CRI-O has the plugins check a pod right after they made it (CNI CHECK), and those before podwire
then miss the addresses that the VM has: it needs --disable-check. containerd does not.`

const uninstallHelp = `Take podwire out of the lists of the configuration directory, then remove the program. Wired
pods that are still there need it when they go: remove them first.`

func cniCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cni",
		Short: "put the CNI plugin on a node, or take it away",
		Long:  cniHelp,
		Args:  unknown,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(cniInstallCommand(), cniUninstallCommand(), cniConfigCommand())
	return cmd
}

// nodeFlags are those that say where a node has what.
type nodeFlags struct {
	binDir, confDir string
}

func (f *nodeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.binDir, "bin-dir", "/opt/cni/bin", "`DIR` of the CNI plugins")
	cmd.Flags().StringVar(&f.confDir, "conf-dir", "/etc/cni/net.d", "`DIR` of their configuration")
	_ = cmd.MarkFlagDirname("bin-dir")
	_ = cmd.MarkFlagDirname("conf-dir")
	cmd.Flags().SortFlags = false
}

func (f *nodeFlags) node(cmd *cobra.Command) (*node, error) {
	if !filepath.IsAbs(f.binDir) || !filepath.IsAbs(f.confDir) {
		return nil, usageError{errors.New("--bin-dir and --conf-dir: want absolute paths")}
	}
	log := Logger(config.Default(), cmd.ErrOrStderr())
	return &node{binDir: f.binDir, confDir: f.confDir, log: log}, nil
}

func cniInstallCommand() *cobra.Command {
	var where nodeFlags
	var entry entryFlags
	var watch, check bool
	cmd := &cobra.Command{Use: "install", Short: "install the CNI plugin on this node", Long: installHelp, Args: noArgs}
	where.add(cmd)
	cmd.Flags().BoolVar(&watch, "watch", false, "install it again whenever somebody changed it, until SIGTERM")
	cmd.Flags().BoolVar(&check, "check", false, "change nothing; exit with 1 where it is not installed like this")
	entry.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		n, err := where.node(cmd)
		if err != nil {
			return err
		}
		if n.entry, err = entry.entry(); err != nil {
			return err
		}
		if watch && !check {
			n.watch(cmd.Context())
			return nil
		}
		changed, err := n.installSoon(cmd.Context(), check)
		if err == nil && check && changed {
			return errors.New("the plugin is not installed like this")
		}
		return err
	}
	return cmd
}

func cniUninstallCommand() *cobra.Command {
	var where nodeFlags
	cmd := &cobra.Command{Use: "uninstall", Short: "take the CNI plugin away from this node", Long: uninstallHelp, Args: noArgs}
	where.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		n, err := where.node(cmd)
		if err != nil {
			return err
		}
		return n.uninstall()
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
	flags.StringVar(&f.wire, "wire", "", "which pods are wired, `annotated|all`; all is for runtimes that hand over no annotations (default annotated)")
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
	var given []config.Setting
	for _, v := range f.settings {
		if len(v.values) > 0 {
			given = append(given, config.FromFlag(v.field, v.values))
		}
	}
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
