package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"nacre/internal/image"
	"nacre/internal/sandbox"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type runFlags struct {
	remove, interactive, tty       bool
	env, volumes                   []string
	workdir, user, name, network   string
	entrypoint, platform, hostname string
	hosts                          []string
	entrypointSet                  bool
	pull                           string
	quiet                          bool
}

func runCommand(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Run a program in a container made from an image",
		Long: `Run a program in a new container and wait for it. What it writes to its root is gone
when it ends. The exit code is the program's; 125 means that nacre failed, 126 that
the program could not be executed, 127 that it was not found.`,
		Example: `  nacre run --rm -it debian:12 bash
  nacre run --rm -v "$PWD:/src" -w /src -e CI=1 golang:1 go test ./...`,
		Args:              minArgs(1, "run needs an image"),
		ValidArgsFunction: a.completeImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.entrypointSet = cmd.Flags().Changed("entrypoint")
			return runContainer(cmd.Context(), a, f, args[0], args[1:])
		},
	}
	fl := cmd.Flags()
	fl.SetInterspersed(false)
	fl.Bool("help", false, "help for run") // -h is the host name here, as in docker
	fl.BoolVar(&f.remove, "rm", false, "remove the container when it ends (it always is, for now)")
	fl.BoolVarP(&f.interactive, "interactive", "i", false, "pass standard input on")
	fl.BoolVarP(&f.tty, "tty", "t", false, "give the program a terminal")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "NAME=VALUE; NAME alone takes the value from the environment")
	fl.StringArrayVarP(&f.volumes, "volume", "v", nil, "HOST:CONTAINER[:ro], a directory or file to be seen inside")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "working directory")
	fl.StringVarP(&f.user, "user", "u", "", "USER[:GROUP], names or numbers")
	fl.StringVar(&f.entrypoint, "entrypoint", "", "program to run in place of the image's ENTRYPOINT")
	fl.StringVar(&f.name, "name", "", "name of the container")
	fl.StringVarP(&f.hostname, "hostname", "h", "", "host name (default: the container's ID)")
	fl.StringVar(&f.network, "network", "host", "host or none")
	fl.StringArrayVar(&f.hosts, "add-host", nil, "NAME:IP line for /etc/hosts")
	fl.StringVar(&f.pull, "pull", "missing", "whether to pull the image: missing, always or never")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "do not show how the pull goes")
	fl.StringVar(&f.platform, "platform", "", "which image of an index (default: this machine's)")
	return cmd
}

func runContainer(ctx context.Context, a *app, f runFlags, name string, args []string) error {
	if f.name != "" && !validName(f.name) {
		return fmt.Errorf("--name %q: want letters, digits, and inside also _ . -", f.name)
	}
	if f.network != "host" && f.network != "none" {
		return fmt.Errorf("--network=%s: want host or none", f.network)
	}
	if n := len(f.hostname); n > maxHostname {
		return fmt.Errorf("--hostname: %d characters; the kernel takes %d", n, maxHostname)
	}
	for _, e := range f.env {
		if e == "" || e[0] == '=' {
			return fmt.Errorf("--env %q: want NAME=VALUE or NAME", e)
		}
	}
	if f.tty && f.interactive && !term.IsTerminal(int(a.stdin.Fd())) {
		return &hintError{errors.New("the input device is not a TTY"), "leave out -t to read from a pipe or file"}
	}
	var p *image.Platform
	if f.platform != "" {
		parsed, err := parsePlatform(f.platform)
		if err != nil {
			return err
		}
		p = &parsed
	}
	img, err := a.imageToRun(ctx, name, f.pull, p, f.quiet)
	if err != nil {
		return err
	}
	_, cfg, err := a.manifest(ctx, img, p)
	if err != nil {
		return err
	}
	if p == nil {
		if host := image.DefaultPlatform(); checkPlatform(name, cfg, host) != nil {
			a.warnf("%s is an image for %s/%s, this machine is %s", name, cfg.OS, cfg.Architecture, image.FormatPlatform(host))
		}
	} else if err := checkPlatform(name, cfg, *p); err != nil {
		return err
	}
	c, err := newContainer(ctx, a.opened, img, cfg, f, args)
	if err != nil {
		return err
	}
	defer c.close()
	status, err := c.run(ctx, a, f)
	var start *sandbox.StartError
	if errors.As(err, &start) {
		return &exitError{code: start.Code, err: err}
	}
	if err != nil {
		return err
	}
	if status.Code != 0 {
		return &exitError{code: status.Code}
	}
	return nil
}

// checkPlatform tells whether an image runs on p; one that says of no platform does.
func checkPlatform(name string, cfg image.Config, p image.Platform) error {
	have := image.Platform{OS: cfg.OS, Architecture: cfg.Architecture, Variant: cfg.Variant}
	only := image.Index{Manifests: []image.Descriptor{{Platform: &have}}}
	if _, err := image.MatchPlatform(only, p); err != nil && have.OS != "" {
		return fmt.Errorf("%s is an image for %s, not for %s", name, image.FormatPlatform(have), image.FormatPlatform(p))
	}
	return nil
}

const maxHostname = 64 // __NEW_UTS_LEN, include/uapi/linux/utsname.h

// validName tells whether docker would take s as a container's name:
// [a-zA-Z0-9][a-zA-Z0-9_.-]+
func validName(s string) bool {
	for i, r := range s {
		word := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !word && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return false
		}
	}
	return len(s) > 1
}
