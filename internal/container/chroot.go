package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"nacre/internal/layer"
	"nacre/internal/network"
	"nacre/internal/registry/store"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"
)

// ChrootOptions are what a program run by chroot is connected to.
type ChrootOptions struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Signals        <-chan os.Signal
	Note           func(string) // is told what the program does without
}

// RunChroot runs what cfg describes where no container can be made, in a directory of its own that is unpacked for it and
// removed at its end: nothing is kept, and no other command sees it. What takes namespaces or mounts is refused.
func RunChroot(ctx context.Context, s *store.Store, cfg Config, o ChrootOptions) (status sandbox.Status, err error) {
	if err := cfg.chrootable(); err != nil {
		return status, err
	}
	lease, err := s.LeaseFor(ctx, "a program run by chroot")
	if err != nil {
		return status, err
	}
	defer lease.Release()
	if err := lease.Layer(ctx, cfg.Layers...); err != nil {
		return status, err
	}
	c := &Container{ID: newID(), Config: cfg, cs: &Containers{s: s}}
	tree, remove, err := c.unpackTree(ctx, o.Note)
	if err != nil {
		return status, err
	}
	defer func() {
		err = errors.Join(err, tree.Close())
		remove()
	}()
	p := &parts{c: c}
	if p.lower, err = c.lower(ctx); err != nil {
		return status, err
	}
	if err := p.addProcess(ctx); err != nil {
		return status, err
	}
	if err := p.addChrootFiles(); err != nil {
		return status, err
	}
	sandbox.WithoutEscape(p.spec.Process.Capabilities)
	o.Note("no /proc and /sys, and the network, host name and processes are those around: nothing can be mounted here (isolation chroot)")
	if err := tree.TryDevice(); err != nil {
		o.Note("device nodes do not work here (" + err.Error() + "): /dev/null, zero, random and urandom are plain files, and there are no others")
	}
	return sandbox.Run(ctx, sandbox.Config{
		Spec: p.spec, Tree: tree, Files: p.files, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Signals: o.Signals,
	})
}

// unpackTree lays the image's layers on one another.
func (c *Container) unpackTree(ctx context.Context, note func(string)) (t *rootfs.WorkTree, remove func(), err error) {
	dir, remove, err := c.cs.s.TempDir("tree")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			remove()
		}
	}()
	layers := make([]*layer.Layer, len(c.Config.Layers))
	for i, d := range c.Config.Layers {
		if layers[i], err = c.cs.s.Layer(ctx, d); err != nil {
			return nil, nil, fmt.Errorf("layer %s: %w", d, err)
		}
	}
	if t, err = rootfs.NewWorkTree(dir, note); err != nil {
		return nil, nil, err
	}
	if err = t.Apply(ctx, rootfs.NewFS(layers...), layers...); err != nil {
		t.Close()
	}
	return t, remove, err
}

// addChrootFiles are the files by which it sees names: those of the network around.
func (p *parts) addChrootFiles() error {
	c := &p.c.Config
	hosts, err := network.HostsFile{Hostname: p.c.Hostname(), Extra: c.Network.ExtraHosts}.Bytes()
	if err != nil {
		return err
	}
	p.files = append(p.files,
		sandbox.File{Path: "/etc/hosts", Data: hosts, Writable: true},
		sandbox.File{Path: "/etc/resolv.conf", Data: network.ResolvConf(), Writable: true})
	return nil
}

// chrootable names what of a config takes more than chroot(2).
func (c *Config) chrootable() error {
	limits := c.Resources
	limits.Ulimits, limits.ShmSize, limits.OOMScoreAdj = nil, 0, 0
	what := ""
	switch {
	case !c.AutoRemove:
		return errors.New("a container that stays when its program ends cannot be made here: run --rm does without")
	case c.TTY:
		what = "a terminal (-t)"
	case len(c.Mounts) > 0:
		what = "a mount (" + c.Mounts[0].Target + ")"
	case c.ReadOnly:
		what = "a read-only root"
	case c.Init:
		what = "an init"
	case len(c.Network.Ports) > 0 || c.Network.PublishAll:
		what = "a published port"
	case c.Network.Mode != network.ModeHost && c.Network.Mode != network.ModePrivate && c.Network.Mode != "":
		what = "network " + c.Network.Mode
	case c.Security.Userns != "" && c.Security.Userns != "host" || len(c.Security.Devices)+len(c.Security.CDI)+len(c.Security.Sysctls) > 0 || c.Security.Runtime != "":
		what = "what was asked for with --userns, --device, --sysctl or --runtime"
	case !reflect.DeepEqual(limits, Resources{}):
		what = "a limit"
	case !c.Restart.None():
		what = "a restart policy"
	default:
		return nil
	}
	return fmt.Errorf("%s takes namespaces, mounts or cgroups, which cannot be had here (isolation chroot)", what)
}
