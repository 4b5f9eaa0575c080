package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"nacre/internal/container"
	"nacre/internal/image"

	"github.com/spf13/pflag"
)

// containerFlags are the flags of run and create: here those of the container itself, each area beside
// it in a file of its own. Each has a register and an apply.
type containerFlags struct {
	remove, interactive, tty, init bool
	env, envFiles                  []string
	labels, labelFiles             []string
	annotations                    []string
	attach                         []string
	workdir, user, name            string
	entrypoint, platform           string
	stopSignal                     string
	stopTimeout                    int
	restart                        string
	cidfile, pull, log             string
	logOpts                        []string
	quiet                          bool
	readOnly                       bool

	health    healthFlags
	mounts    mountFlags
	network   networkFlags
	security  securityFlags
	resources resourceFlags

	detached bool           // nobody is going to be attached
	set      *pflag.FlagSet // to ask what was given
}

func (f *containerFlags) register(a *app, fl *pflag.FlagSet) {
	f.set = fl
	fl.SetInterspersed(false)
	fl.Bool("help", false, "help for this command") // -h is the host name here, as in docker
	// -l is a label here.
	fl.StringVar(&a.logLevel, "log-level", "info", "what to say besides results: error, warn, info or debug")
	fl.BoolVar(&f.remove, "rm", false, "remove the container when it ends")
	fl.BoolVarP(&f.interactive, "interactive", "i", false, "pass standard input on")
	fl.BoolVarP(&f.tty, "tty", "t", false, "give the program a terminal")
	fl.BoolVar(&f.init, "init", false, "run an init in the container that passes signals on and reaps processes")
	listVar(fl, &f.attach, "attach", "a", "stdin, stdout or stderr: be connected to these alone")
	listVar(fl, &f.env, "env", "e", "NAME=VALUE; NAME alone takes the value from the environment")
	listVar(fl, &f.envFiles, "env-file", "", "file of such lines")
	listVar(fl, &f.labels, "label", "l", "KEY[=VALUE] kept with the container")
	listVar(fl, &f.labelFiles, "label-file", "", "file of such lines")
	listVar(fl, &f.annotations, "annotation", "", "KEY=VALUE for the runtime spec")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "working directory")
	fl.StringVarP(&f.user, "user", "u", "", "USER[:GROUP], names or numbers")
	fl.StringVar(&f.entrypoint, "entrypoint", "", "program to run in place of the image's ENTRYPOINT")
	fl.StringVar(&f.name, "name", "", "name of the container")
	fl.BoolVar(&f.readOnly, "read-only", false, "let nothing be written to the container's root")
	fl.StringVar(&f.stopSignal, "stop-signal", "", "signal that stop sends (default: the image's, else SIGTERM)")
	fl.IntVar(&f.stopTimeout, "stop-timeout", 0, "seconds that stop waits before it kills (default 10; -1: for ever)")
	fl.StringVar(&f.restart, "restart", "no", "when to start again what ended: no, on-failure[:MAX], always or unless-stopped")
	fl.StringVar(&f.cidfile, "cidfile", "", "write the container's ID to this file")
	fl.StringVar(&f.log, "log-driver", "", "json-file, or none to keep no log")
	listVar(fl, &f.logOpts, "log-opt", "", "max-size=SIZE and max-file=NUMBER of the log (default 64m and 4); labels=, env= and tag= for logs --details")
	fl.StringVar(&f.pull, "pull", "missing", "whether to pull the image: missing, always or never")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "do not show how the pull goes")
	fl.StringVar(&f.platform, "platform", "", "which image of an index (default: this machine's)")
	isolationFlag(fl)
	registerRefused(fl)
	f.health.register(fl)
	f.mounts.register(fl)
	f.network.register(fl)
	f.security.register(fl)
	f.resources.register(fl)
}

// config is what the flags and the image say a container is to be.
func (f *containerFlags) config(img image.Config, args []string) (cfg container.Config, err error) {
	if f.name != "" && !container.ValidName(f.name) {
		return cfg, badName(f.name)
	}
	cfg = container.Config{
		TTY: f.tty, OpenStdin: f.interactive, Init: f.init, AutoRemove: f.remove, ReadOnly: f.readOnly,
		WorkingDir: img.Config.WorkingDir, User: img.Config.User, StopSignal: img.Config.StopSignal,
		Exposed: img.Config.ExposedPorts, ImageVolumes: img.Config.Volumes,
	}
	if f.workdir != "" {
		cfg.WorkingDir = f.workdir
	}
	if f.user != "" {
		cfg.User = f.user
	}
	f.command(&cfg, img, args)
	if len(cfg.Args()) == 0 {
		return cfg, &hintError{errors.New("the image says no command to run"), "give one after the image's name"}
	}
	for _, apply := range []func(*container.Config, image.Config) error{
		f.applyEnv, f.applyLabels, f.applyAttach, f.applyStop, f.applyLog, f.health.apply,
		f.mounts.apply, f.network.apply, f.security.apply, f.resources.apply,
	} {
		if err := apply(&cfg, img); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

// command combines ENTRYPOINT and CMD as docker does: --entrypoint drops both, a
// command given drops CMD.
func (f *containerFlags) command(cfg *container.Config, img image.Config, args []string) {
	cfg.Entrypoint, cfg.Command = img.Config.Entrypoint, img.Config.Cmd
	if f.set.Changed("entrypoint") {
		cfg.Entrypoint, cfg.Command = nil, nil
		if f.entrypoint != "" {
			cfg.Entrypoint = []string{f.entrypoint}
		}
	}
	if len(args) > 0 {
		cfg.Command = args
	}
}

func (f *containerFlags) applyEnv(cfg *container.Config, img image.Config) error {
	env, err := parseEnv(f.envFiles, f.env)
	if err != nil {
		return err
	}
	cfg.Env = container.MergeEnv(img.Config.Env, env)
	return nil
}

// parseEnv reads --env-file and --env. A name alone takes its value from our own environment.
func parseEnv(files, vars []string) ([]string, error) {
	var env []string
	for _, name := range files {
		lines, err := readLines(name)
		if err != nil {
			return nil, fmt.Errorf("--env-file: %w", err)
		}
		for _, l := range lines {
			if key, _, _ := strings.Cut(l, "="); key == "" || strings.ContainsAny(key, " \t") {
				return nil, fmt.Errorf("--env-file %s: %q is no name of a variable", name, key)
			}
		}
		env = append(env, lines...)
	}
	for _, e := range vars {
		if e == "" || e[0] == '=' {
			return nil, fmt.Errorf("--env %q: want NAME=VALUE or NAME", e)
		}
	}
	env = append(env, vars...)
	var full []string
	for _, e := range env {
		if !strings.Contains(e, "=") {
			v, ok := os.LookupEnv(e)
			if !ok {
				continue
			}
			e += "=" + v
		}
		full = append(full, e)
	}
	return full, nil
}

// readLines reads a file of --env-file or --label-file: comments and empty lines are passed over.
func readLines(name string) ([]string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
		if line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	return out, nil
}

func (f *containerFlags) applyLabels(cfg *container.Config, img image.Config) error {
	cfg.Labels = map[string]string{}
	for k, v := range img.Config.Labels {
		cfg.Labels[k] = v
	}
	labels := []string{}
	for _, name := range f.labelFiles {
		lines, err := readLines(name)
		if err != nil {
			return fmt.Errorf("--label-file: %w", err)
		}
		labels = append(labels, lines...)
	}
	for _, l := range append(labels, f.labels...) {
		key, value, _ := strings.Cut(l, "=")
		if key == "" {
			return fmt.Errorf("--label %q: want KEY or KEY=VALUE", l)
		}
		cfg.Labels[key] = value
	}
	for _, s := range f.annotations {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return fmt.Errorf("--annotation %q: want KEY=VALUE", s)
		}
		if cfg.Annotations == nil {
			cfg.Annotations = map[string]string{}
		}
		cfg.Annotations[key] = value
	}
	return nil
}

// applyAttach says which streams the maker is connected to: without -a the output, and with -i the input.
func (f *containerFlags) applyAttach(cfg *container.Config, _ image.Config) error {
	for _, s := range f.attach {
		s = strings.ToLower(s)
		if s != "stdin" && s != "stdout" && s != "stderr" {
			return fmt.Errorf("--attach=%s: want stdin, stdout or stderr", s)
		}
		cfg.Attached = append(cfg.Attached, s)
	}
	if cfg.Attached == nil && !f.detached {
		cfg.Attached = []string{"stdout", "stderr"}
		if f.interactive {
			cfg.Attached = append(cfg.Attached, "stdin")
		}
	}
	// Standard input is that of one who is attached, and ends with them.
	cfg.StdinOnce = cfg.OpenStdin && slices.Contains(cfg.Attached, "stdin")
	return nil
}

func (f *containerFlags) applyStop(cfg *container.Config, _ image.Config) (err error) {
	if f.stopSignal != "" {
		cfg.StopSignal = f.stopSignal
	}
	if cfg.StopSignal != "" {
		if _, err := container.ParseSignal(cfg.StopSignal); err != nil {
			return fmt.Errorf("--stop-signal: %w", err)
		}
	}
	if f.set.Changed("stop-timeout") {
		cfg.StopTimeout = &f.stopTimeout
	}
	cfg.Restart, err = parseRestart(f.restart)
	if err == nil && cfg.AutoRemove && !cfg.Restart.None() {
		err = errors.New("conflicting options: cannot specify both --restart and --rm") // docker's words
	}
	return err
}

func parseRestart(s string) (container.RestartPolicy, error) {
	name, count, has := strings.Cut(s, ":")
	p := container.RestartPolicy{Name: name}
	switch name {
	case "", container.RestartNo, container.RestartAlways, container.RestartUnlessStopped:
		if has {
			return p, fmt.Errorf("--restart=%s: a number is for on-failure alone", s)
		}
		if name == container.RestartNo {
			p.Name = ""
		}
	case container.RestartOnFailure:
		n, err := strconv.Atoi(count)
		if has && (err != nil || n < 0) {
			return p, fmt.Errorf("--restart=%s: want on-failure:MAX, a number", s)
		}
		p.Max = n
	default:
		return p, fmt.Errorf("--restart=%s: want no, on-failure[:MAX], always or unless-stopped", s)
	}
	return p, nil
}
