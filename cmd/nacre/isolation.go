package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"nacre/internal/build"
	"nacre/internal/isolation"
	"nacre/internal/sandbox"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// needsNamespace says which commands run programs, or handle files that such left with other owners than the user.
// Of an ordinary user they enter a user namespace before they do anything. What joins the namespaces of a container (exec) stays outside: who owns
// a user namespace may enter it from there, and from no other.
var needsNamespace = map[string]func(a *app, args []string, flags *pflag.FlagSet) bool{
	"build":         (*app).buildRuns,
	"run":           always,
	"create":        always,
	"start":         always,
	"restart":       always,
	"exec":          always,
	"cp":            always,
	"diff":          always,
	"commit":        always,
	"export":        always,
	"volume":        always,
	"rm":            always,
	"rmi":           (*app).hasForeign,
	"image rm":      (*app).hasForeign,
	"image prune":   (*app).hasForeign,
	"builder du":    (*app).hasForeign,
	"builder prune": (*app).hasForeign,
	"builder cache": (*app).hasForeign,
	"system prune":  (*app).hasForeign,
	"system check":  (*app).hasForeign,
	"prune":         (*app).hasForeign,
}

func always(*app, []string, *pflag.FlagSet) bool { return true }

// isolate chooses how programs are kept apart, and enters the namespace that takes, which starts the command anew.
func (a *app) isolate(cmd *cobra.Command, args []string) error {
	need := namespaceNeed(cmd)
	if need == nil {
		return nil
	}
	want, err := wantedIsolation(cmd.Flags())
	if err != nil {
		return err
	}
	c, err := isolation.Choose(want)
	if err != nil {
		return refusedHint(err)
	}
	a.isolation = c
	if c.Kind == isolation.Userns || c.Kind == isolation.Single {
		if !c.Inside && need(a, args, cmd.Flags()) {
			a.debugRefused(c) // the program that goes on inside does not know
			if a.isolation.Beside, err = a.beside(cmd, args); err != nil {
				return err
			}
			return a.enter()
		}
	}
	a.debugIsolation(c)
	return noContainers(cmd, c)
}

// noContainers refuses what takes namespaces where there are none.
func noContainers(cmd *cobra.Command, c isolation.Choice) error {
	if c.Kind != isolation.Chroot && c.Kind != isolation.None {
		return nil
	}
	switch path := commandPath(cmd); path {
	case "run", "create", "start", "restart", "exec":
		if path == "run" && c.Kind == isolation.Chroot && byChroot(cmd.Flags()) {
			return nil
		}
	default:
		return nil
	}
	err := fmt.Errorf("containers cannot be run here: %s", c.WhyNot())
	if c.Kind == isolation.Chroot {
		return &hintError{err, "run --rm without -d runs a program by chroot; " + c.Refused[0].Hint}
	}
	for _, r := range c.Refused {
		if r.Hint != "" {
			return &hintError{err, r.Hint}
		}
	}
	return err
}

// commandPath is a command with those it is below of, but for this program: "image rm".
func commandPath(cmd *cobra.Command) string {
	path := strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
	return strings.TrimPrefix(path, "container ") // "container rm" is "rm"
}

// namespaceNeed finds what is said of a command, or of one above it.
func namespaceNeed(cmd *cobra.Command) func(*app, []string, *pflag.FlagSet) bool {
	path := commandPath(cmd)
	for {
		if need := needsNamespace[path]; need != nil {
			return need
		}
		i := strings.LastIndexByte(path, ' ')
		if i < 0 {
			return nil
		}
		path = path[:i]
	}
}

// isolationFlag is --isolation.
func isolationFlag(fl *pflag.FlagSet) {
	fl.String("isolation", "", "how programs are kept apart from this machine: auto, root, userns, single, chroot or none (default: NACRE_ISOLATION, else auto)")
}

func wantedIsolation(fl *pflag.FlagSet) (isolation.Kind, error) {
	if f := fl.Lookup("isolation"); f != nil && f.Value.String() != "" {
		return isolation.Parse(f.Value.String())
	}
	kind, err := isolation.Parse(os.Getenv("NACRE_ISOLATION"))
	if err != nil {
		err = fmt.Errorf("NACRE_ISOLATION: %w", err)
	}
	return kind, err
}

// enter goes on in the namespace. The store stays where it is for the user.
func (a *app) enter() error {
	root, err := filepath.Abs(a.rootFolder())
	if err != nil {
		return err
	}
	return fmt.Errorf("enter user namespace: %w", isolation.Enter(a.isolation, "NACRE_ROOT="+root))
}

// enterFor is for a command that turns out to need the namespace after all, by an error it got without: a
// Dockerfile whose base image has triggers that run something.
func (a *app) enterFor(err error) error {
	var start *sandbox.StartError
	c := a.isolation
	if _, refused := errors.AsType[*build.NoRunError](err); refused {
		return &hintError{err, a.runHint()}
	}
	if !errors.As(err, &start) || start.Code != sandbox.CodeSandbox {
		return err
	}
	if c.Inside || c.Kind != isolation.Userns && c.Kind != isolation.Single {
		return err
	}
	if cerr := a.close(); cerr != nil {
		return errors.Join(err, cerr)
	}
	return errors.Join(err, a.enter())
}

// runHint is what can be done where RUN cannot be executed.
func (a *app) runHint() string {
	for _, r := range a.isolation.Refused {
		if r.Hint != "" && r.Kind != isolation.Root {
			return r.Hint + "; nacre info says more"
		}
	}
	return "steps that are cached and those without a program (COPY, ADD) do work; nacre info says more"
}

func refusedHint(err error) error {
	var r *isolation.RefusedError
	if errors.As(err, &r) && r.Hint != "" {
		return &hintError{err, r.Hint}
	}
	return err
}

// debugIsolation says with --log-level=debug what was chosen and why not something better.
func (a *app) debugIsolation(c isolation.Choice) {
	a.debugRefused(c)
	if a.logLevel == "debug" {
		fmt.Fprintf(a.stderr, "debug: isolation %s: %s\n", c.Kind, c.Why)
	}
}

func (a *app) debugRefused(c isolation.Choice) {
	if a.logLevel != "debug" {
		return
	}
	for _, r := range c.Refused {
		fmt.Fprintf(a.stderr, "debug: isolation %s is not possible: %s\n", r.Kind, printable(r.Why))
		if r.Hint != "" {
			fmt.Fprintf(a.stderr, "debug: hint: %s\n", printable(r.Hint))
		}
	}
}

// hasForeign tells whether the store has something that a program may have left with other owners.
func (a *app) hasForeign([]string, *pflag.FlagSet) bool {
	for _, dir := range []string{"trees", "caches", "containers", "volumes"} {
		if list, err := os.ReadDir(filepath.Join(a.rootFolder(), dir)); err == nil && len(list) > 0 {
			return true
		}
	}
	return false
}

// buildRuns tells whether a build may run something: unless its Dockerfile is a file here that has no RUN.
func (a *app) buildRuns(args []string, fl *pflag.FlagSet) bool {
	if len(args) != 1 {
		return true
	}
	name := fl.Lookup("file").Value.String()
	if name == "" {
		name = filepath.Join(args[0], "Dockerfile")
	}
	info, err := os.Stat(name)
	if args[0] == "-" || name == "-" || err != nil || !info.Mode().IsRegular() || info.Size() > maxDockerfile {
		return true
	}
	text, err := os.ReadFile(name)
	return err != nil || mentionsRun(text)
}

// mentionsRun tells whether a line begins with RUN.
func mentionsRun(text []byte) bool {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for lines.Scan() {
		word, _, _ := bytes.Cut(bytes.TrimSpace(lines.Bytes()), []byte(" "))
		word, _, _ = bytes.Cut(word, []byte("\t"))
		if bytes.EqualFold(word, []byte("RUN")) || bytes.EqualFold(word, []byte("ONBUILD")) {
			return true
		}
	}
	return lines.Err() != nil
}
