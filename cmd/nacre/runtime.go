package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"nacre/internal/bundle"
	"nacre/internal/container"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
)

// runtimeName is the name under which this program is an OCI runtime: "nacre-runtime ARGS" is "nacre runtime ARGS", for those who take the
// path of a program alone.
const runtimeName = "nacre-runtime"

// runtimeFlags are those that all commands of a runtime take. They are runc's, as its callers give them without asking.
type runtimeFlags struct {
	root, log, format string
}

func (f *runtimeFlags) runtime() bundle.Runtime {
	root := f.root
	switch {
	case root != "":
	case os.Geteuid() == 0:
		root = "/run/nacre/runtime"
	default:
		root = filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "nacre/runtime")
	}
	return bundle.Runtime{Root: root}
}

// logged writes an error where the caller looks for it, too.
func (f *runtimeFlags) logged(err error) error {
	if err == nil || f.log == "" {
		return err
	}
	w, lerr := os.OpenFile(f.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	defer w.Close()
	now := time.Now().UTC().Format(time.RFC3339)
	if f.format == "json" {
		line, _ := json.Marshal(map[string]string{"level": "error", "msg": err.Error(), "time": now})
		fmt.Fprintf(w, "%s\n", line)
	} else {
		fmt.Fprintf(w, "time=%q level=error msg=%q\n", now, err.Error())
	}
	return err
}

func runtimeCommand(a *app) *cobra.Command {
	f := &runtimeFlags{}
	cmd := &cobra.Command{
		Use:   "runtime",
		Short: "Run OCI bundles, as runc does",
		Long: `runtime makes containers of OCI bundles (a config.json and a root), by the command line that runc and crun
have: for what calls an OCI runtime. They are no containers of the store, and not listed by ps. A link
to nacre with the name nacre-runtime is the same.`,
		Example: `  nacre runtime run --bundle ./bundle web
  ln -s "$(command -v nacre)" /usr/local/bin/nacre-runtime`,
		Version: version,
		RunE:    group,
	}
	p := cmd.PersistentFlags()
	p.StringVar(&f.root, "root", "", "folder of the state of containers (default /run/nacre/runtime; of others than root $XDG_RUNTIME_DIR/nacre/runtime)")
	p.StringVar(&f.log, "log", "", "file that errors are written to, besides standard error")
	p.StringVar(&f.format, "log-format", "text", "of that file: text or json")
	for _, name := range []string{"debug", "systemd-cgroup"} {
		p.Bool(name, false, "has no effect")
		p.MarkHidden(name)
	}
	p.String("rootless", "auto", "has no effect")
	p.MarkHidden("rootless")
	for _, make := range []func(*app, *runtimeFlags) *cobra.Command{
		runtimeCreate, runtimeStart, runtimeState, runtimeKill, runtimeDelete, runtimePause, runtimeResume, runtimeRun, runtimeExec, runtimeList,
	} {
		cmd.AddCommand(make(a, f))
	}
	return cmd
}

// bundleFlags are those by which a container is made.
type bundleFlags struct {
	bundle, pidFile, console string
}

func (b *bundleFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&b.bundle, "bundle", "b", ".", "folder with config.json")
	b.registerProcess(cmd)
	for _, name := range []string{"no-pivot", "no-new-keyring"} {
		fl.Bool(name, false, "has no effect")
		fl.MarkHidden(name)
	}
}

func (b *bundleFlags) registerProcess(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&b.pidFile, "pid-file", "", "file to write the process id to")
	fl.StringVar(&b.console, "console-socket", "", "unix socket to send the terminal to")
}

func (b *bundleFlags) options() bundle.Options {
	return bundle.Options{Stdio: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}, PidFile: b.pidFile, ConsoleSocket: b.console}
}

const needsID = "want the ID of a container"

func runtimeCreate(a *app, f *runtimeFlags) *cobra.Command {
	var b bundleFlags
	cmd := &cobra.Command{
		Use:     "create [OPTIONS] ID",
		Short:   "Make a container of a bundle, which waits to be started",
		Example: "  nacre runtime create --bundle ./bundle web",
		Args:    exactArgs(1, needsID),
		RunE: func(cmd *cobra.Command, args []string) error {
			made, err := f.runtime().Create(cmd.Context(), args[0], b.bundle, b.options())
			if err != nil {
				return f.logged(err)
			}
			a.warnAll(made.Warnings)
			return nil
		},
	}
	b.register(cmd)
	return cmd
}

func runtimeStart(a *app, f *runtimeFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "start ID",
		Short:   "Start a container that was created",
		Example: "  nacre runtime start web",
		Args:    exactArgs(1, needsID),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.logged(f.runtime().Start(cmd.Context(), args[0]))
		},
	}
}

func runtimeState(a *app, f *runtimeFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "state ID",
		Short:   "Show the state of a container, as JSON",
		Example: "  nacre runtime state web",
		Args:    exactArgs(1, needsID),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.runtime().State(args[0])
			if err != nil {
				return f.logged(err)
			}
			return printJSON(a.stdout, s)
		},
	}
}

func runtimeKill(a *app, f *runtimeFlags) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "kill [OPTIONS] ID [SIGNAL]",
		Short:   "Send a signal to a container: SIGTERM unless told otherwise",
		Example: "  nacre runtime kill web KILL",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "SIGTERM"
			if len(args) > 1 {
				name = args[1]
			}
			sig, err := container.ParseSignal(name)
			if err == nil {
				err = f.runtime().Kill(args[0], sig, all)
			}
			return f.logged(err)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "to all processes of its cgroups")
	return cmd
}

func runtimeDelete(a *app, f *runtimeFlags) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "delete [OPTIONS] ID",
		Short:   "Remove what is left of a container that has ended",
		Example: "  nacre runtime delete --force web",
		Args:    exactArgs(1, needsID),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := f.runtime().Delete(cmd.Context(), args[0], force)
			if w := (*bundle.Warning)(nil); errors.As(err, &w) {
				a.warnAll([]string{w.Error()})
				return nil
			}
			return f.logged(err)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill it first, and be content if there is none")
	return cmd
}

func runtimeList(a *app, f *runtimeFlags) *cobra.Command {
	var format string
	var quiet bool
	cmd := &cobra.Command{
		Use:     "list [OPTIONS]",
		Short:   "List the containers of this runtime",
		Example: "  nacre runtime list --format json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := f.runtime().List()
			switch {
			case err != nil:
				return f.logged(err)
			case format == "json":
				return printJSON(a.stdout, list)
			case format != "table":
				return fmt.Errorf("--format=%s: want table or json", format)
			}
			w := tabwriter.NewWriter(a.stdout, 12, 1, 3, ' ', 0)
			if !quiet {
				fmt.Fprintln(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED")
			}
			for _, c := range list {
				if quiet {
					fmt.Fprintln(w, c.ID)
				} else {
					fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", c.ID, c.Pid, c.Status, c.Bundle, c.Created.Format(time.RFC3339))
				}
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "IDs alone")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// runtimeArgs are the arguments of this program; under the name of a runtime it is one.
func runtimeArgs(args []string) []string {
	if len(args) > 0 && filepath.Base(args[0]) == runtimeName {
		return append([]string{"runtime"}, args[1:]...)
	}
	return args[1:]
}

// readProcess reads the process that is to be added to a container.
func readProcess(name string) (*specs.Process, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	p := &specs.Process{}
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}
