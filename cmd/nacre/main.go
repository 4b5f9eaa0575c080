// Nacre builds, keeps, moves, runs and examines container images. Nacre COMMAND --help
// shows the flags of a command with an example.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"nacre/internal/container"
	"nacre/internal/dockerfile"
	"nacre/internal/sandbox"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	sandbox.Init()   // does not return in a process that is to become a container
	container.Init() // nor in one that looks after a container
	collectLater()
	os.Exit(run(runtimeArgs(os.Args)))
}

// collectLater lets small commands end without ever collecting garbage, which is a tenth of what a short
// build costs: they have 16 MiB in place of Go's 4 before it begins, for once.
func collectLater() {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(400)
	first := new([16]byte) // goes with the first collection
	runtime.SetFinalizer(first, func(*[16]byte) { debug.SetGCPercent(100) })
}

// run is main with its exit code: 0 done, 1 failed, 125 where flags are wrong or `run` itself
// (not the program in the container) failed, else that program's own.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), heeded(os.Interrupt, syscall.SIGHUP, syscall.SIGTERM)...)
	defer stop()
	// Who asks again does not want to wait. But one interrupt may come twice, from the
	// terminal and from the wrapper (sudo, make, timeout) that passes it on.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	a := &app{stdin: os.Stdin, stdout: &output{file: os.Stdout}, stderr: os.Stderr}
	root := newRoot(a, args)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if cerr := a.close(); err == nil {
		err = cerr
	}
	if a.stdout.err != nil {
		err = fmt.Errorf("write standard output: %w", bare(a.stdout.err))
	}
	if err == nil {
		return 0
	}
	code := exitCode(cmd, err)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.stderr, "interrupted")
		return 130
	}
	a.report(err)
	return code
}

// heeded are those of signals that who started us has not told us to ignore: nohup
// does that for hangups, and a shell for the interrupts of what it put in the background. The
// end of a process that asks politely is always heeded.
func heeded(signals ...os.Signal) []os.Signal {
	return slices.DeleteFunc(signals, func(s os.Signal) bool { return s != syscall.SIGTERM && signal.Ignored(s) })
}

func exitCode(cmd *cobra.Command, err error) int {
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	if cmd != nil && cmd.Name() == "run" {
		return 125
	}
	return 1
}

// exitError ends nacre with a code of its own; err is nil where all has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// newRoot is nacre with what args call of its commands.
func newRoot(a *app, args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "nacre",
		Short: "Container images, whole: build, keep, move, run and examine them",
		Long: `nacre builds container images from Dockerfiles, keeps them, moves them, runs them
and tells what is in them. It needs no daemon, and takes the commands and flags
that docker's users know.`,
		Example: `  nacre build -t web:1 .
  nacre images
  nacre run --rm web:1`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          group,
		// Flags before the command are nacre's: -l is a label to run, and the log's level here.
		TraverseChildren:  true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true}, // ours is among the commands
	}
	root.SetVersionTemplate("nacre version {{.Version}}\n")
	f := root.PersistentFlags()
	f.StringVar(&a.root, "root", "", "folder of the store (default: NACRE_ROOT, else /var/lib/nacre as root and ~/.local/share/nacre otherwise)")
	f.StringVarP(&a.logLevel, "log-level", "l", "info", "what to say besides results: error, warn, info or debug")
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	addCommands(root, a, args)
	plainUsage(root)
	if _, ok := completing(args); ok {
		completeFlags(root, a)
	}
	root.SetHelpCommand(helpCommand())
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		switch a.logLevel {
		case "error", "warn", "info", "debug":
			return a.isolate(cmd, args)
		}
		return fmt.Errorf("--log-level=%s: want error, warn, info or debug", a.logLevel)
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitError{125, &hintError{err, flagHint(cmd, err)}} // docker's code
	})
	return root
}

// plainUsage keeps cobra's "[flags]" from lines of use that have docker's "[OPTIONS]".
func plainUsage(c *cobra.Command) {
	c.DisableFlagsInUseLine = strings.Contains(c.Use, "[OPTIONS]")
	for _, sub := range c.Commands() {
		plainUsage(sub)
	}
}

// flagHint names the flag that was perhaps meant.
func flagHint(cmd *cobra.Command, err error) string {
	see := "see " + cmd.CommandPath() + " --help"
	word, ok := strings.CutPrefix(err.Error(), "unknown flag: ")
	if !ok {
		return see
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	if near := dockerfile.DidYouMean(word, names); near != "" {
		return near
	}
	return see
}
