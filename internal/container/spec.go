package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"nacre/internal/layer"
	"nacre/internal/network"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// parts are what a container is run from, put together from its Config area by area: each add method
// is one area. Whatever an area makes that is to go when the container ends goes into undo.
type parts struct {
	c     *Container
	spec  *specs.Spec
	root  rootfs.Mount
	lower *rootfs.FS // the image's files, to look things up in
	files []sandbox.File
	trees []sandbox.Tree
	// created is called when the sandbox's namespaces exist and its process, pid, waits.
	created []func(ctx context.Context, pid int) error
	undo    []func()
	network *network.Network // what was made for it goes last: nothing of the store is in it
	ids     *os.File         // holds the ids of its user namespace; nil: it has none
}

// ErrNoCommand: neither the image nor the user says what to run.
var ErrNoCommand = errors.New("no command specified")

// compose puts the parts together. The caller closes them at the end of the run, also where there is
// an error.
func (c *Container) compose(ctx context.Context) (*parts, error) {
	p := &parts{c: c}
	for _, add := range []func(context.Context) error{p.addRoot, p.addProcess, p.addUserns, p.addNetwork, p.addMounts, p.mapVolumes, p.addSecurity, p.addResources} {
		if err := add(ctx); err != nil {
			return p, err
		}
	}
	return p, nil
}

// close undoes what the areas made, the latest first.
func (p *parts) close() {
	for _, f := range slices.Backward(p.undo) {
		f()
	}
	p.undo = nil
	if p.network != nil {
		p.network.Close()
	}
	if p.ids != nil {
		p.ids.Close()
	}
}

// addRoot is the image's layers with the writable side on top.
func (p *parts) addRoot(ctx context.Context) (err error) {
	if p.root, err = p.c.Root(ctx); err != nil {
		return err
	}
	p.lower, err = p.c.lower(ctx)
	return err
}

// Root is the container's root as a mount. Its writable side is made when it is first asked for.
func (c *Container) Root(ctx context.Context) (rootfs.Mount, error) {
	form, err := rootfs.Probe(c.cs.s.Root())
	if err != nil {
		return rootfs.Mount{}, err
	}
	if err := removeImplied(c.dir); err != nil {
		return rootfs.Mount{}, err
	}
	return rootfs.Prepare(ctx, c.cs.s, form, c.Config.Layers, c.dir, false)
}

// lower is the image's files.
func (c *Container) lower(ctx context.Context) (*rootfs.FS, error) {
	layers := make([]*layer.Layer, len(c.Config.Layers))
	for i, d := range c.Config.Layers {
		l, err := c.cs.s.Layer(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", d, err)
		}
		layers[i] = l
	}
	return rootfs.NewFS(layers...), nil
}

// Hostname is the container's name for itself.
func (c *Container) Hostname() string {
	if c.Config.Hostname != "" {
		return c.Config.Hostname
	}
	return c.ShortID()
}

// addProcess is the program, its user and its environment, in docker's default confinement.
func (p *parts) addProcess(context.Context) error {
	c := &p.c.Config
	args := c.Args()
	if len(args) == 0 {
		return ErrNoCommand
	}
	// Users that were added in an earlier run count.
	user, err := rootfs.LookupProcess(rootfs.Over(p.root, p.lower), c.User)
	if err != nil {
		return err
	}
	caps, err := c.Security.capabilities()
	if err != nil {
		return err
	}
	p.spec = sandbox.DefaultSpec(sandbox.SpecOptions{
		Capabilities: caps,
		Args:         args, Env: p.c.environ(user), Cwd: c.WorkingDir, Hostname: p.c.Hostname(), Terminal: c.TTY,
		User:         specs.User{UID: uint32(user.UID), GID: uint32(user.GID), AdditionalGids: gids(user)},
		HostNetwork:  c.Network.Mode == network.ModeHost,
		ReadonlyRoot: c.ReadOnly,
		ShmSize:      c.Resources.ShmSize,
	})
	p.spec.Domainname = c.Domainname
	p.spec.Annotations = maps.Clone(c.Annotations)
	return nil
}

// removeImplied removes what an earlier Prepare put on top of the layers: it is made again.
func removeImplied(dir string) error {
	if err := os.Remove(filepath.Join(dir, "implied.erofs")); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, "implied"))
}
