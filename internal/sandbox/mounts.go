package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mount is one mount, its options translated for the mount API.
type mount struct {
	Dest   string
	Type   string // of a new file system; empty: bind
	Source string // path on the host, for bind; else just a name
	Within string // of a bind: what is bound of Source, which is a directory that Within does not lead out of; empty: Source itself
	// Foreign: Source is a process, and Within what it sees.
	Foreign bool
	Data    []string // options of the file system, "key=value" or "flag"

	Recursive  bool // bind with what is mounted below
	Set, Clear uint64
	All        bool   // Set and Clear are for what is mounted below, too
	Propagate  uint64 // MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE, MS_SHARED; with MS_REC for what is mounted below, too
	DeviceNode bool   // the source is a device node, which is to work

	// Optional: it is left out where the root has no directory for it.
	Optional bool
	// Mapped: its ids are those of the sandbox's user namespace, where it has one of its own.
	Mapped bool

	// IsFile: the mount is a file with this content, and Source and Type are empty.
	IsFile   bool
	File     []byte
	Mode     uint32
	UID, GID int
}

// newMounts translates the mounts of a spec, and files, which come last.
func newMounts(s *specs.Spec, files []File, devices bool) ([]mount, error) {
	var out []mount
	for _, m := range s.Mounts {
		if !path.IsAbs(m.Destination) {
			return nil, fmt.Errorf("mount on %q: not an absolute path", m.Destination)
		}
		if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
			return nil, fmt.Errorf("mount on %s: id mappings are not supported", m.Destination)
		}
		if m.Type == "cgroup" || m.Type == "cgroup2" {
			list, err := cgroupMounts(m, hasLimits(s.Linux))
			if err != nil {
				return nil, err
			}
			out = append(out, list...)
			continue
		}
		one, err := newMount(m)
		if one.Mapped && len(s.Linux.UIDMappings) == 0 && err == nil {
			err = errors.New("option idmap needs a user namespace of the sandbox's own")
		}
		if err != nil {
			return nil, fmt.Errorf("mount on %s: %w", m.Destination, err)
		}
		out = append(out, one)
	}
	for _, f := range files {
		out = append(out, newFile(f))
	}
	for i := range out {
		m := &out[i]
		if !path.IsAbs(m.Dest) || path.Clean(m.Dest) == "/" {
			return nil, fmt.Errorf("mount on %q: not a path below the root", m.Dest)
		}
		m.Dest = path.Clean(m.Dest)
		// Without CAP_SYS_ADMIN no process can mount, so that a device node which it may
		// well make (CAP_MKNOD) opens nothing, wherever it makes it. Docker uses a device
		// cgroup for this, which costs more and is not always to be had.
		if !devices && m.Type != "devpts" && !m.DeviceNode {
			m.Set |= unix.MOUNT_ATTR_NODEV
			m.Clear &^= unix.MOUNT_ATTR_NODEV
		}
	}
	return out, nil
}

func newFile(f File) mount {
	m := mount{
		Dest: f.Path, IsFile: true, File: f.Data, Mode: uint32(f.Mode.Perm()), UID: f.UID, GID: f.GID,
		Set: unix.MOUNT_ATTR_NOSUID, Propagate: unix.MS_PRIVATE,
	}
	if m.Mode == 0 {
		m.Mode = 0o644
	}
	if !f.Writable {
		m.Set |= unix.MOUNT_ATTR_RDONLY
	}
	return m
}

func newMount(m specs.Mount) (mount, error) {
	out := mount{Dest: m.Destination, Type: m.Type, Source: m.Source, Propagate: unix.MS_PRIVATE | unix.MS_REC}
	bind, tree := m.Type == "bind" || m.Type == "none" || m.Type == "" || m.Type == typeWithin || m.Type == typeOf, m.Type == typeTree
	for _, o := range m.Options {
		switch o {
		case "bind":
			bind = true
		case "rbind":
			bind, out.Recursive = true, true
		case "idmap":
			out.Mapped = true
		case "defaults", "":
		case "private":
			out.Propagate = unix.MS_PRIVATE
		case "rprivate":
			out.Propagate = unix.MS_PRIVATE | unix.MS_REC
		case "slave":
			out.Propagate = unix.MS_SLAVE
		case "rslave":
			out.Propagate = unix.MS_SLAVE | unix.MS_REC
		case "shared":
			out.Propagate = unix.MS_SHARED
		case "rshared":
			out.Propagate = unix.MS_SHARED | unix.MS_REC
		case "unbindable", "runbindable":
			out.Propagate = unix.MS_UNBINDABLE
		case "ridmap", "tmpcopyup":
			return out, fmt.Errorf("option %s is not supported", o)
		default:
			if !out.attribute(o) {
				out.Data = append(out.Data, o)
			}
		}
	}
	if !bind && out.Propagate&unix.MS_SHARED != 0 {
		return out, errors.New("option shared is for bind mounts: there is nobody to share this with")
	}
	if out.Mapped && !bind {
		return out, errors.New("option idmap is for bind mounts")
	}
	if !bind && !tree {
		return out, nil
	}
	if len(out.Data) > 0 {
		return out, fmt.Errorf("option %s means nothing for a bind mount", out.Data[0])
	}
	if tree {
		return out, nil
	}
	out.Type = ""
	if m.Type == typeWithin {
		out.Source, out.Within, _ = strings.Cut(m.Source, "\x00")
	}
	if m.Type == typeOf {
		out.Source, out.Within, out.Foreign = strings.Cut(m.Source, "\x00")
		return out, nil
	}
	return out, out.checkSource()
}

// checkSource looks at what is bound, on the host.
func (m *mount) checkSource() error {
	if !path.IsAbs(m.Source) {
		return fmt.Errorf("source %q is not an absolute path", m.Source)
	}
	info, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	m.DeviceNode = info.Mode()&os.ModeDevice != 0
	return nil
}

// attribute is one of a mount, by the options that set and clear it.
type attribute struct {
	on, off string
	bit     uint64
}

var attributes = [...]attribute{
	{"ro", "rw", unix.MOUNT_ATTR_RDONLY},
	{"nosuid", "suid", unix.MOUNT_ATTR_NOSUID},
	{"nodev", "dev", unix.MOUNT_ATTR_NODEV},
	{"noexec", "exec", unix.MOUNT_ATTR_NOEXEC},
	{"nodiratime", "diratime", unix.MOUNT_ATTR_NODIRATIME},
	{"nosymfollow", "symfollow", unix.MOUNT_ATTR_NOSYMFOLLOW},
}

// attribute takes an option that is one of the mount, not of the file system.
func (m *mount) attribute(option string) bool {
	if name, all := strings.CutPrefix(option, "r"); all && name == "ro" {
		m.All = true
		option = name
	}
	for _, a := range attributes {
		switch option {
		case a.on:
			m.Set, m.Clear = m.Set|a.bit, m.Clear&^a.bit
			return true
		case a.off:
			m.Set, m.Clear = m.Set&^a.bit, m.Clear|a.bit
			return true
		}
	}
	atime := map[string]uint64{"relatime": unix.MOUNT_ATTR_RELATIME, "noatime": unix.MOUNT_ATTR_NOATIME, "strictatime": unix.MOUNT_ATTR_STRICTATIME}
	bits, ok := atime[option]
	if ok { // a field of the attributes rather than a bit
		m.Set = m.Set&^unix.MOUNT_ATTR__ATIME | bits
		m.Clear |= unix.MOUNT_ATTR__ATIME
	}
	return ok
}

// hierarchies are the lines of /proc/self/cgroup: "4:memory:/path".
var hierarchies = sync.OnceValues(func() ([]hierarchy, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var out []hierarchy
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) == 3 {
			out = append(out, hierarchy{controllers: f[1], path: f[2]})
		}
	}
	return out, nil
})

type hierarchy struct {
	controllers string // "cpu,cpuacct", "name=systemd", empty: version 2
	path        string // of this process in it
}

const cgroupRoot = "/sys/fs/cgroup"

// unifiedOnly tells whether the host has cgroups of version 2 alone.
var unifiedOnly = sync.OnceValue(func() bool {
	var fs unix.Statfs_t
	return unix.Statfs(cgroupRoot, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
})

// cgroupMounts is what a mount of cgroups means on this host: one file system, or, in
// version 1, one per hierarchy in a tmpfs. The cgroup namespace makes them begin at
// the process's own cgroups. In version 1 there is something to see only where it has
// some of its own; a dozen mounts for nothing would be half of what starting it costs.
func cgroupMounts(m specs.Mount, limited bool) ([]mount, error) {
	if unifiedOnly() {
		m.Type = "cgroup2"
		one, err := newMount(m)
		return []mount{one}, err
	}
	if !limited {
		return nil, nil
	}
	list, err := hierarchies()
	if err != nil {
		return nil, fmt.Errorf("mount on %s: %w", m.Destination, err)
	}
	flags, err := newMount(m)
	if err != nil {
		return nil, fmt.Errorf("mount on %s: %w", m.Destination, err)
	}
	top := flags
	top.Type, top.Data = "tmpfs", []string{"mode=755", "size=64k"}
	top.Set &^= unix.MOUNT_ATTR_RDONLY // the mount points come first; the remount below takes it back
	out := []mount{top}
	for _, h := range list {
		one := flags
		one.Dest = path.Join(m.Destination, strings.TrimPrefix(h.controllers, "name="))
		one.Type, one.Data = "cgroup", strings.Split(h.controllers, ",")
		if h.controllers == "" {
			one.Dest, one.Type, one.Data = path.Join(m.Destination, "unified"), "cgroup2", nil
		}
		out = append(out, one)
	}
	if flags.Set&unix.MOUNT_ATTR_RDONLY != 0 {
		out = append(out, mount{Dest: m.Destination, Type: remount, Set: unix.MOUNT_ATTR_RDONLY})
	}
	return slices.Clip(out), nil
}

// remount is the type of a mount that only changes what is mounted there already.
const remount = "remount"
