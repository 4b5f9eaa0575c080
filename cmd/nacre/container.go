package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"nacre/internal/build"
	"nacre/internal/image"
	"nacre/internal/network"
	"nacre/internal/registry/store"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// container is what `run` runs: a spec on a writable root, gone when it ends.
type container struct {
	spec  *specs.Spec
	root  rootfs.Mount
	files []sandbox.File
	undo  []func()
}

func (c *container) close() {
	slices.Reverse(c.undo)
	for _, f := range c.undo {
		f()
	}
}

// newContainer prepares a container; args replace the image's CMD.
func newContainer(ctx context.Context, s *store.Store, img store.Image, cfg image.Config, f runFlags, args []string) (c *container, err error) {
	c = &container{}
	defer func(c *container) {
		if err != nil {
			c.close()
		}
	}(c)
	argv := f.argv(cfg, args)
	if len(argv) == 0 {
		return nil, &hintError{errors.New("the image says no command to run"), "give one after the image's name"}
	}
	host := f.host()
	lower, err := c.mount(ctx, s, img, cfg.RootFS.DiffIDs, f.title(host))
	if err != nil {
		return nil, err
	}
	spec := cfg.Config.User
	if f.user != "" {
		spec = f.user
	}
	user, err := rootfs.LookupUser(lower, spec)
	if err != nil {
		return nil, err
	}
	hosts, err := network.Hosts(host, f.hosts)
	if err != nil {
		return nil, err
	}
	c.spec = sandbox.DefaultSpec(sandbox.SpecOptions{
		Args: argv, Env: f.environ(cfg, user, host), Cwd: f.cwd(cfg), Hostname: host, Terminal: f.tty,
		User:        specs.User{UID: uint32(user.UID), GID: uint32(user.GID), AdditionalGids: gids(user.Groups)},
		HostNetwork: f.network == "host",
	})
	c.files = []sandbox.File{
		{Path: "/etc/hosts", Data: hosts, Writable: true},
		{Path: "/etc/hostname", Data: []byte(host + "\n"), Writable: true},
		{Path: "/etc/resolv.conf", Data: network.ResolvConf(), Writable: true},
	}
	for _, v := range f.volumes {
		m, err := bindMount(v)
		if err != nil {
			return nil, err
		}
		c.spec.Mounts = append(c.spec.Mounts, m)
	}
	return c, nil
}

// mount prepares the writable root on the image's layers, which stay as long as it does.
func (c *container) mount(ctx context.Context, s *store.Store, img store.Image, diffIDs []digest.Digest, title string) (*rootfs.FS, error) {
	lease, err := s.LeaseFor(ctx, "container "+title)
	if err != nil {
		return nil, err
	}
	c.undo = append(c.undo, func() { lease.Release() })
	if err := lease.Image(ctx, img); err != nil {
		return nil, err
	}
	scratch, remove, err := s.TempDir("run")
	if err != nil {
		return nil, err
	}
	c.undo = append(c.undo, remove)
	form, err := rootfs.Probe(s.Root())
	if err != nil {
		return nil, err
	}
	if c.root, err = rootfs.Prepare(ctx, s, form, diffIDs, scratch, false); err != nil {
		return nil, err
	}
	return build.Root(ctx, s, diffIDs)
}

// run executes the container, with this process' streams and signals.
func (c *container) run(ctx context.Context, a *app, f runFlags) (sandbox.Status, error) {
	config := sandbox.Config{Spec: c.spec, Root: c.root, Files: c.files, Stdout: a.stdout, Stderr: a.stderr}
	if f.interactive {
		config.Stdin = a.stdin
	}
	signals := make(chan os.Signal, 16)
	config.Signals = signals
	if f.tty {
		restore, err := c.terminal(a, &config)
		if err != nil {
			return sandbox.Status{}, err
		}
		defer restore()
	}
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT)
	defer signal.Stop(signals)
	// Interrupts are the program's to answer: the context of the command, which they end, is not passed on.
	status, err := sandbox.Run(context.WithoutCancel(ctx), config)
	for _, text := range status.Warnings {
		a.warnf("%s", text)
	}
	return status, err
}

// terminal connects this process' terminal, where there is one, to the container's.
func (c *container) terminal(a *app, config *sandbox.Config) (restore func(), err error) {
	fd := int(a.stdin.Fd())
	if !term.IsTerminal(fd) {
		return func() {}, nil
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	sizes, resized := make(chan sandbox.Size, 1), make(chan os.Signal, 1)
	send := func() {
		if w, h, err := term.GetSize(fd); err == nil {
			select {
			case sizes <- sandbox.Size{Width: w, Height: h}:
			default:
			}
		}
	}
	send()
	signal.Notify(resized, syscall.SIGWINCH)
	go func() {
		for range resized {
			send()
		}
	}()
	config.Resize = sizes
	return func() {
		signal.Stop(resized)
		close(resized)
		term.Restore(fd, state)
	}, nil
}

// title is what others are told holds the image.
func (f runFlags) title(host string) string {
	if f.name != "" {
		return f.name
	}
	return host
}

// argv combines ENTRYPOINT and CMD as docker does: --entrypoint drops both, a
// command given drops CMD.
func (f runFlags) argv(cfg image.Config, args []string) []string {
	entry, cmd := cfg.Config.Entrypoint, cfg.Config.Cmd
	if f.entrypointSet {
		entry, cmd = nil, nil
		if f.entrypoint != "" {
			entry = []string{f.entrypoint}
		}
	}
	if len(args) > 0 {
		cmd = args
	}
	return append(slices.Clone(entry), cmd...)
}

func (f runFlags) cwd(cfg image.Config) string {
	if f.workdir != "" {
		return f.workdir
	}
	return cfg.Config.WorkingDir
}

func (f runFlags) host() string {
	if f.hostname != "" {
		return f.hostname
	}
	var id [6]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environ is what docker gives: its own few, the image's, then -e; later ones win.
func (f runFlags) environ(cfg image.Config, u rootfs.User, host string) []string {
	env := []string{defaultPath, "HOSTNAME=" + host}
	if f.tty {
		env = append(env, "TERM=xterm")
	}
	env = append(env, cfg.Config.Env...)
	for _, e := range f.env {
		if !strings.Contains(e, "=") {
			v, ok := os.LookupEnv(e)
			if !ok {
				continue
			}
			e += "=" + v
		}
		env = append(env, e)
	}
	home := u.Home
	if home == "" {
		home = "/"
	}
	return lastWins(append([]string{"HOME=" + home}, env...))
}

// lastWins keeps the last value of each name, in the place of its first.
func lastWins(env []string) []string {
	var out []string
	at := map[string]int{}
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if i, ok := at[name]; ok {
			out[i] = e
			continue
		}
		at[name] = len(out)
		out = append(out, e)
	}
	return out
}

func gids(groups []int) []uint32 {
	var out []uint32
	for _, g := range groups {
		out = append(out, uint32(g))
	}
	return out
}

// bindMount reads a -v value: HOST:CONTAINER with options ro, rw and propagation.
// A host directory that is missing is made, as docker does.
func bindMount(v string) (specs.Mount, error) {
	parts := strings.Split(v, ":")
	if len(parts) < 2 || len(parts) > 3 || !strings.HasPrefix(parts[1], "/") {
		return specs.Mount{}, fmt.Errorf("--volume %q: want HOST:CONTAINER[:ro], with CONTAINER absolute", v)
	}
	if !strings.ContainsAny(parts[0], "/.~") {
		return specs.Mount{}, fmt.Errorf("--volume %q: named volumes do not exist yet: give a path, such as ./%s", v, parts[0])
	}
	host, err := filepath.Abs(parts[0])
	if err != nil {
		return specs.Mount{}, err
	}
	if _, err := os.Stat(host); errors.Is(err, unix.ENOENT) {
		if err := os.MkdirAll(host, 0o755); err != nil {
			return specs.Mount{}, err
		}
	}
	m := specs.Mount{Destination: parts[1], Source: host, Type: "bind", Options: []string{"rbind", "rprivate"}}
	if len(parts) == 3 {
		for _, o := range strings.Split(parts[2], ",") {
			switch o {
			case "ro", "rw":
				m.Options = append(m.Options, o)
			case "z", "Z", "cached", "delegated", "consistent": // nothing to do on this kernel, as in docker
			default:
				return specs.Mount{}, fmt.Errorf("--volume %q: unknown option %q", v, o)
			}
		}
	}
	return m, nil
}
