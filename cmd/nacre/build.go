package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"nacre/internal/build"
	"nacre/internal/image"
	"nacre/internal/isolation"
	"nacre/internal/layer"
	"nacre/internal/sandbox"

	"github.com/spf13/cobra"
)

// buildFlags are the flags of build as given.
type buildFlags struct {
	grants
	caches                         cacheFlags
	limits                         limitFlags
	attest                         attestFlags
	tags, args, labels, hosts      []string
	contexts, outputs, annotations []string
	noCacheFilter                  []string
	metadata                       string
	file, target, network          string
	progress, iidfile, platform    string
	noCache, quiet, pull           bool
	debug, explain                 bool
	squash, push, verify           bool
}

func buildCommand(a *app) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build [OPTIONS] PATH | URL | -",
		Short: "Build an image from a Dockerfile",
		Long: `Build an image from a Dockerfile and a context: the directory whose files COPY and
ADD may use, the URL of a git repository (#REF:SUBDIR) or of a tar, or of a Dockerfile. "-" reads
standard input: a tar is the context, anything else the Dockerfile, with no context.`,
		Example: `  nacre build -t web:1 .
  nacre build -t web:1 -f docker/Dockerfile --target test --build-arg VERSION=2 .
  nacre build -t web:1 https://example.com/web.git#v1:docker
  tar cz . | nacre build -t web:1 -
  nacre build --memory 2g --cpus 1.5 --ulimit nofile=4096 -t web:1 .
  nacre build --allow device=vendor.com/gpu=0 -t train .
  nacre build --explain -t web:1 .
  nacre build --cache-from example.com/web/cache --cache-to type=registry,ref=example.com/web/cache,mode=max,mounts=true -t web:1 .
  nacre build --debug-shell .
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) nacre build --verify-reproducible -t web:1 .
  printf 'FROM scratch\nLABEL a=b\n' | nacre build -`,
		Args: exactArgs(1, "a build needs one context: a directory, a URL, or -"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.enterFor(runBuild(cmd, a, f, args[0])) },
	}
	fl := cmd.Flags()
	listVar(fl, &f.tags, "tag", "t", "name and optionally tag of the image (NAME[:TAG]); may be repeated")
	fl.StringVarP(&f.file, "file", "f", "", "the Dockerfile: a path, a URL, or - for standard input (default: PATH/Dockerfile)")
	listVar(fl, &f.contexts, "build-context", "", "NAME=DIR, docker-image://IMAGE, oci-layout://DIR or URL to use as NAME")
	listVar(fl, &f.args, "build-arg", "", "NAME=VALUE of an ARG; NAME alone takes the value from the environment")
	listVar(fl, &f.labels, "label", "", "KEY=VALUE to set as a label")
	fl.StringVar(&f.target, "target", "", "stage to build (default: the last)")
	fl.StringVar(&f.network, "network", "default", "network of RUN steps: default, host or none")
	listVar(fl, &f.hosts, "add-host", "", "NAME:IP line for /etc/hosts of RUN steps")
	listVar(fl, &f.outputs, "output", "o", "where the result goes: DIR, - or type=image|registry|docker|oci|tar|local,dest=PATH,name=NAME; may be repeated")
	fl.BoolVar(&f.push, "push", false, "push the image to the registries of its names, and keep it in the store")
	listVar(fl, &f.annotations, "annotation", "", "[TYPE:]KEY=VALUE to annotate the image with, such as manifest[linux/amd64]:KEY=VALUE; may be repeated")
	fl.StringVar(&f.metadata, "metadata-file", "", "file to write digests and names to, as JSON")
	fl.StringSliceVar(&f.noCacheFilter, "no-cache-filter", nil, "stages whose steps run, whatever is cached")
	fl.BoolVar(&f.noCache, "no-cache", false, "run every step, whatever is cached")
	fl.BoolVar(&f.verify, "verify-reproducible", false, "build twice without cache, and fail if it comes out otherwise, showing what differs")
	fl.BoolVar(&f.squash, "squash", false, "make one layer of all that the build adds to its base image")
	fl.BoolVar(&f.pull, "pull", false, "look for newer base images in their registries, even if they are here")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print the image ID and nothing else")
	fl.StringVar(&f.progress, "progress", "auto", "how progress is shown: auto, plain, tty, rawjson or quiet")
	fl.StringVar(&f.iidfile, "iidfile", "", "file to write the image ID to")
	fl.StringVar(&f.platform, "platform", "", "platform to build for (default: this machine's)")
	isolationFlag(fl)
	fl.BoolVar(&f.explain, "explain", false, "say of each step whether it was cached, and of one that was not what differed: which file, argument or step before it")
	fl.BoolVar(&f.debug, "debug-shell", false, "open a shell in the root of a step that fails, then fail")
	f.grants.register(fl)
	f.caches.register(fl)
	f.attest.register(fl)
	f.limits.register(fl)
	return cmd
}

func runBuild(cmd *cobra.Command, a *app, f buildFlags, dir string) (err error) {
	o, err := f.options(cmd.Context(), a, dir)
	if err != nil {
		return err
	}
	if err := f.limits.apply(&o); err != nil {
		return err
	}
	done, err := f.grants.apply(&o)
	if err != nil {
		return err
	}
	defer done()
	if err := errors.Join(f.caches.apply(a, &o), f.attest.apply(&o)); err != nil {
		return err
	}
	s, err := a.store(cmd.Context())
	if err != nil {
		return err
	}
	policy, err := a.cachePolicy()
	if err != nil {
		return err
	}
	defer func() {
		if err == nil || errors.Is(err, syscall.ENOSPC) {
			a.trimCache(cmd.Context(), s, policy)
		}
	}()
	o.Explain = f.explain || f.progress == "rawjson"
	p, err := a.newBuildProgress(f.progress, f.quiet, f.explain)
	if err != nil {
		return err
	}
	outputs, err := f.parseOutputs(&o)
	if err == nil {
		o.NoImage = o.NoImage && !f.limits.load
		err = addOutputs(a, &o, outputs)
	}
	if err != nil {
		return err
	}
	if f.iidfile != "" {
		// No build that fails leaves the ID of an earlier one.
		if err := os.Remove(f.iidfile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--iidfile: %w", err)
		}
	}
	if f.debug {
		o.Debug = a.debugShell(p)
	}
	var warnings warningKeeper
	b := build.Builder{Store: s, Cache: s.Cache(), Sink: warnings.over(p.sink), Images: pulls{a}, Chroot: a.isolation.Kind == isolation.Chroot}
	if !a.isolation.Runs() {
		b.NoRun = a.isolation.WhyNot()
	}
	v, err := f.run(cmd.Context(), b, o)
	if cerr := p.close(err); err == nil {
		err = cerr
	}
	r := v.Result
	if err != nil {
		return unreadable(err)
	}
	img := builtImage(r, o.Names, outputs)
	if f.iidfile != "" {
		if err := os.WriteFile(f.iidfile, []byte(img.config.String()), 0o644); err != nil {
			return fmt.Errorf("--iidfile: %w", err)
		}
	}
	if f.metadata != "" {
		if err := writeMetadata(f.metadata, img, warnings.list); err != nil {
			return fmt.Errorf("--metadata-file: %w", err)
		}
	}
	if f.quiet {
		fmt.Fprintln(a.stdout, img.config)
	} else if f.verify {
		a.reproducible(v)
	}
	return nil
}

// run builds, once or twice.
func (f buildFlags) run(ctx context.Context, b build.Builder, o build.Options) (v build.Verified, err error) {
	if f.verify {
		return b.Verify(ctx, o)
	}
	v.Result, err = b.Build(ctx, o)
	return v, err
}

// unreadable adds what can be done about a file of the context that may not be read.
func unreadable(err error) error {
	var step *build.StepError
	var start *sandbox.StartError
	if errors.As(err, &step) && errors.Is(err, fs.ErrPermission) && !errors.As(err, &start) {
		return &hintError{err, "make it readable, or name it in .dockerignore"}
	}
	return err
}

// options turns flags into what the builder takes.
func (f buildFlags) options(ctx context.Context, a *app, dir string) (build.Options, error) {
	o := build.Options{
		Context: dir, Dockerfile: f.file, Target: f.target, NoCache: f.noCache, Pull: f.pull, NoCacheFilter: f.noCacheFilter, Squash: f.squash, Hosts: f.hosts,
		BuildArgs: map[string]*string{}, Labels: map[string]string{}, Contexts: map[string]string{},
	}
	var err error
	switch f.network {
	case "default", "host", "none":
		o.Network = f.network
	default:
		return o, fmt.Errorf("--network=%s: want default, host or none", f.network)
	}
	for _, t := range f.tags {
		ref, err := newName(t)
		if err != nil {
			return o, fmt.Errorf("--tag: %w", err)
		}
		o.Names = append(o.Names, ref)
	}
	for _, arg := range f.args {
		name, value, ok := strings.Cut(arg, "=")
		if name == "" {
			return o, fmt.Errorf("--build-arg %q: want NAME=VALUE or NAME", arg)
		}
		if ok {
			o.BuildArgs[name] = &value
		} else if v, set := os.LookupEnv(name); set {
			o.BuildArgs[name] = &v
		} else {
			o.BuildArgs[name] = nil
		}
	}
	for _, c := range f.contexts {
		name, spec, ok := strings.Cut(c, "=")
		if !ok || name == "" || spec == "" {
			return o, fmt.Errorf("--build-context %q: want NAME=DIR, NAME=docker-image://IMAGE, NAME=oci-layout://DIR or NAME=URL", c)
		}
		o.Contexts[name] = spec
	}
	for _, l := range f.labels {
		name, value, _ := strings.Cut(l, "=")
		if name == "" {
			return o, fmt.Errorf("--label %q: want KEY=VALUE", l)
		}
		o.Labels[name] = value
	}
	if f.platform != "" {
		if o.Platform, err = parsePlatform(f.platform); err != nil {
			return o, err
		}
	}
	// As buildx does, so that the environment of a build system reaches the build.
	if v, set := os.LookupEnv("SOURCE_DATE_EPOCH"); set && o.BuildArgs["SOURCE_DATE_EPOCH"] == nil {
		o.BuildArgs["SOURCE_DATE_EPOCH"] = &v
	}
	return o, f.input(ctx, a, &o)
}

// input sorts out what the context is, and what comes from standard input.
func (f buildFlags) input(ctx context.Context, a *app, o *build.Options) error {
	if o.Context == "-" && f.file == "-" {
		return errors.New("both the context and the Dockerfile are said to be on standard input")
	}
	if o.Context == "-" || f.file == "-" {
		if f.debug {
			return errors.New("--debug-shell: standard input is for the shell, and cannot be the context or the Dockerfile, too")
		}
		stdin, err := a.input(ctx, "-")
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		in := bufio.NewReader(stdin)
		if o.Context == "-" && isTar(in) {
			o.Context, o.Tar = "", in
			return nil
		}
		data, err := io.ReadAll(io.LimitReader(in, maxDockerfile+1))
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		o.Data, o.Dockerfile = data, ""
		if o.Context == "-" {
			o.Context = ""
		}
	}
	if o.Context == "" {
		return nil
	}
	if remote, err := build.Remote(o.Context); remote != nil || err != nil {
		return err
	}
	info, err := os.Stat(o.Context)
	if err != nil {
		return fmt.Errorf("build context: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("build context %s: not a directory", o.Context)
	}
	return nil
}

// isTar tells whether a stream begins as a tar does, or as something compressed.
func isTar(in *bufio.Reader) bool {
	head, _ := in.Peek(layer.SniffSize)
	if layer.CompressionOf(head) != "" {
		return true
	}
	_, err := tar.NewReader(bytes.NewReader(head)).Next()
	return err == nil
}

// maxDockerfile bounds what is read as a Dockerfile from a pipe.
const maxDockerfile = 16 << 20

// parsePlatform reads what --platform is given: "linux/arm64", "linux/arm/v7", or only "arm64".
func parsePlatform(s string) (image.Platform, error) {
	p, err := image.ParsePlatform(s)
	if err != nil || !strings.Contains(s, "/") && !slices.Contains(loneWords[:], strings.ToLower(s)) {
		return p, fmt.Errorf("--platform=%s: want OS/ARCH[/VARIANT], such as linux/amd64", s)
	}
	return p, nil
}

// loneWords are architectures, and the one operating system, that are a platform by themselves.
var loneWords = [...]string{
	"386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x",
	"i386", "x86_64", "x86-64", "aarch64", "armhf", "armel", "linux",
}

// exactArgs is cobra.ExactArgs with a message that says what is wanted.
func exactArgs(n int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return &hintError{errors.New(want), "see " + cmd.CommandPath() + " --help"}
		}
		return nil
	}
}

func maxArgs(n int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return &hintError{errors.New(want), "see " + cmd.CommandPath() + " --help"}
		}
		return nil
	}
}

func minArgs(n int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return &hintError{errors.New(want), "see " + cmd.CommandPath() + " --help"}
		}
		return nil
	}
}
