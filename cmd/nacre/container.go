package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"

	"nacre/internal/build"
	"nacre/internal/image"
	"nacre/internal/network"
	"nacre/internal/registry/store"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"
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
		User:        specs.User{UID: uint32(user.UID), GID: uint32(user.GID), AdditionalGids: gids(user)},
		HostNetwork: f.network == "host",
	})
	c.files = []sandbox.File{
		{Path: "/etc/hosts", Data: hosts, Writable: true},
		{Path: "/etc/hostname", Data: []byte(host + "\n"), Writable: true},
		{Path: "/etc/resolv.conf", Data: network.ResolvConf(), Writable: true},
	}
	mounts, err := bindMounts(f.volumes, lower)
	if err != nil {
		return nil, err
	}
	c.spec.Mounts = append(c.spec.Mounts, mounts...)
	c.files = slices.DeleteFunc(c.files, func(f sandbox.File) bool {
		return slices.ContainsFunc(mounts, func(m specs.Mount) bool { return m.Destination == f.Path })
	})
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

// gids are the supplementary groups, the primary one among them as in docker: without it
// a setgid program could give up a group that files deny something to (CVE-2022-36109).
func gids(u rootfs.User) []uint32 {
	out := []uint32{uint32(u.GID)}
	for _, g := range u.Groups {
		if g != u.GID {
			out = append(out, uint32(g))
		}
	}
	return out
}
