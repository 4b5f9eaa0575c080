package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"nacre/internal/layer"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Resolver makes mounts parts of a sandbox when a container starts.
type Resolver struct {
	Volumes *Volumes
	// Root is the container's image, read.
	Root *rootfs.FS
	// Image gives the root of the image that a mount of TypeImage names, prepared, writable unless m.ReadOnly. The caller
	// keeps its layers from being removed as long as the container runs.
	Image func(ctx context.Context, m Mount) (rootfs.Mount, error)
}

// Parts are mounts as the sandbox takes them.
type Parts []part

type part struct {
	spec specs.Mount
	tree *sandbox.Tree
}

// Resolve works out what is mounted where, and makes the missing sources of -v.
func (r Resolver) Resolve(ctx context.Context, mounts []Mount) (Parts, error) {
	sorted := slices.Clone(mounts)
	Sort(sorted)
	var parts Parts
	for _, m := range sorted {
		p, err := r.resolve(ctx, m)
		if err != nil {
			return nil, fmt.Errorf("mount on %s: %w", m.Target, err)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func (r Resolver) resolve(ctx context.Context, m Mount) (part, error) {
	switch m.Type {
	case TypeBind:
		return r.bind(m)
	case TypeVolume:
		return r.volume(m)
	case TypeTmpfs:
		return part{spec: specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: r.tmpfsOptions(m)}}, nil
	case TypeImage:
		root, err := r.Image(ctx, m)
		if err != nil {
			return part{}, err
		}
		return part{
			spec: specs.Mount{Destination: m.Target, Options: append(m.access(), "rprivate", "nodev")},
			tree: &sandbox.Tree{Root: root, Path: path.Join("/", m.Subpath)},
		}, nil
	}
	return part{}, fmt.Errorf("mount type unknown: %q", m.Type)
}

func (r Resolver) bind(m Mount) (part, error) {
	info, err := os.Stat(m.Source)
	if errors.Is(err, fs.ErrNotExist) && m.CreateSource {
		if err = os.MkdirAll(m.Source, 0o755); err == nil {
			info, err = os.Stat(m.Source)
		}
		if err != nil {
			return part{}, fmt.Errorf("make the source: %w", err)
		}
	}
	if err != nil {
		return part{}, badSource(m, err)
	}
	if err := r.sameKind(m, info.IsDir()); err != nil {
		return part{}, err
	}
	return part{spec: specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: m.bindOptions()}}, nil
}

// bindOptions are the mount's for the sandbox.
func (m Mount) bindOptions() []string {
	options := []string{"rbind"}
	if m.Recursive == RecursiveDisabled {
		options[0] = "bind"
	}
	switch {
	case !m.ReadOnly:
	case m.Recursive == "" || m.Recursive == RecursiveReadonly:
		options = append(options, "rro")
	default:
		options = append(options, "ro")
	}
	if m.Propagation == "" {
		return append(options, "rprivate")
	}
	return append(options, m.Propagation)
}

// access is "ro" or nothing: what is read-only on the host is not made writable by a mount of it.
func (m Mount) access() []string {
	if m.ReadOnly {
		return []string{"ro"}
	}
	return nil
}

// volume mounts a volume's data, or what its options say in its place.
func (r Resolver) volume(m Mount) (part, error) {
	vol, err := r.Volumes.Get(m.Source)
	if err != nil {
		return part{}, err
	}
	if len(vol.Options) > 0 {
		return r.local(m, vol)
	}
	data := r.Volumes.Mountpoint(vol.Name)
	var st unix.Stat_t
	if err := unix.Lstat(data, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return part{}, fmt.Errorf("volume %s: %s is not the folder that was made: it is left alone", vol.Name, data)
	}
	if m.Subpath == "" {
		if err := r.sameKind(m, true); err != nil {
			return part{}, err
		}
	}
	return part{spec: sandbox.MountWithin(m.Target, data, m.Subpath, m.bindOptions()...)}, nil
}

// local mounts what the options of a volume describe, as docker's driver of that name does, but where the container is and nowhere else.
func (r Resolver) local(m Mount, vol Volume) (part, error) {
	device := vol.Options["device"]
	if kind, ok := bindOption(vol.Options); ok {
		options := []string{kind}
		for o := range splitOptions(vol.Options["o"]) {
			if o != "bind" && o != "rbind" {
				options = append(options, o)
			}
		}
		if m.ReadOnly {
			options = append(options, "rro")
		}
		info, err := os.Stat(device)
		if err != nil {
			return part{}, fmt.Errorf("volume %s: device: %w", vol.Name, err)
		}
		options = append(options, "rprivate")
		if m.Subpath != "" {
			return part{spec: sandbox.MountWithin(m.Target, device, m.Subpath, options...)}, nil
		}
		return part{spec: specs.Mount{Destination: m.Target, Type: "bind", Source: device, Options: options}}, r.sameKind(m, info.IsDir())
	}
	if m.Subpath != "" {
		return part{}, fmt.Errorf("volume %s: of type=%s there are no subpaths", vol.Name, vol.Options["type"])
	}
	options := slices.Collect(splitOptions(vol.Options["o"]))
	if m.ReadOnly && !slices.Contains(options, "ro") {
		options = append(options, "ro")
	}
	return part{spec: specs.Mount{Destination: m.Target, Type: vol.Options["type"], Source: device, Options: options}}, nil
}

// tmpfsOptions are docker's defaults, then what was asked for: later ones win. A directory that the image has
// there keeps its mode.
func (r Resolver) tmpfsOptions(m Mount) []string {
	options := append([]string{"nosuid", "nodev", "noexec"}, m.TmpfsOptions...)
	if m.Size > 0 {
		options = append(options, "size="+strconv.FormatInt(m.Size, 10))
	}
	hasMode := slices.ContainsFunc(m.TmpfsOptions, func(o string) bool { return strings.HasPrefix(o, "mode=") })
	switch {
	case m.Perm != nil:
		options = append(options, fmt.Sprintf("mode=%o", *m.Perm))
	case hasMode:
	default:
		if st, ok := r.inImage(m.Target); ok && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			options = append(options, fmt.Sprintf("mode=%o", st.Mode&0o7777))
		}
	}
	return append(options, m.access()...)
}

// inImage tells what the image has at a path.
func (r Resolver) inImage(target string) (*layer.Stat, bool) {
	if r.Root == nil {
		return nil, false
	}
	info, err := r.Root.Stat(strings.TrimPrefix(target, "/"))
	if err != nil {
		return nil, false
	}
	st, ok := info.Sys().(*layer.Stat)
	return st, ok
}

// sameKind checks that a file is mounted on a file and a directory on a directory; the kernel would call anything
// else an "invalid argument".
func (r Resolver) sameKind(m Mount, sourceIsDir bool) error {
	ours := slices.Contains([]string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}, m.Target) // files that are put there
	st, there := r.inImage(m.Target)
	if !there && !ours {
		return nil // it will be made
	}
	isDir := !ours && st.Mode&unix.S_IFMT == unix.S_IFDIR
	if sourceIsDir == isDir {
		return nil
	}
	kinds := map[bool]string{true: "a directory", false: "a file"}
	what := m.Source
	if m.Type == TypeVolume {
		what = "volume " + what
	}
	return fmt.Errorf("%s is %s and %s in the image %s", what, kinds[sourceIsDir], m.Target, kinds[isDir])
}

// AddTo puts the parts into a config, after what it mounts already. What it would mount in the same place itself is left
// out, and what lies below that, too: /dev/shm and its like where there is a mount on /dev.
func (p Parts) AddTo(c *sandbox.Config) {
	covers := func(below string) bool {
		return slices.ContainsFunc(p, func(one part) bool {
			target := one.spec.Destination
			return below == target || strings.HasPrefix(below, target+"/")
		})
	}
	c.Spec.Mounts = slices.DeleteFunc(slices.Clone(c.Spec.Mounts), func(m specs.Mount) bool { return covers(path.Clean(m.Destination)) })
	c.Files = slices.DeleteFunc(slices.Clone(c.Files), func(f sandbox.File) bool {
		return slices.ContainsFunc(p, func(one part) bool { return one.spec.Destination == f.Path })
	})
	for _, one := range p {
		if one.tree != nil {
			c.MountTree(one.spec.Destination, *one.tree, one.spec.Options...)
			continue
		}
		c.Spec.Mounts = append(c.Spec.Mounts, one.spec)
	}
}
