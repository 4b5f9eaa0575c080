package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// In a user namespace root may do what concerns that namespace alone. It makes no device nodes, mounts
// no sysfs of a network that is not its own, and gives files to no owners that do not exist there.

// inUserns tells whether this process has no rights on the machine as such.
var inUserns = sync.OnceValue(rootfs.UserXattr)

// adaptToUserns changes what cannot be done in a user namespace into what can.
func (p *plan) adaptToUserns(s *specs.Spec) (err error) {
	p.Userns = inUserns() || len(s.Linux.UIDMappings) > 0
	if !p.Userns {
		return nil
	}
	if recordsOwners(s) {
		if p.OwnerFilter, err = ownerFilter(); err != nil {
			return err
		}
		p.Mounts = append(p.Mounts, aptStaysRoot())
	}
	gids := countIDs("/proc/self/gid_map")
	p.NoSetgroups = deniesSetgroups()
	if m := s.Linux.GIDMappings; len(m) > 0 {
		gids = mappedFrom(m)
	} else if maps, _ := newIDMaps(s); maps != nil {
		gids = 0
	}
	ownNetwork := cloneFlags(s)&unix.CLONE_NEWNET != 0
	p.Mounts = slices.DeleteFunc(p.Mounts, func(m mount) bool {
		return m.Type == "cgroup" || m.Type == remount // version 1: the hierarchies are the machine's
	})
	for i := range p.Mounts {
		m := &p.Mounts[i]
		switch {
		case m.Type == "sysfs" && !ownNetwork:
			m.Type, m.Source, m.Data, m.Recursive, m.All = "", "/sys", nil, true, true
		case m.Type == "devpts" && gids <= ttyGroup:
			m.Data = slices.DeleteFunc(m.Data, func(o string) bool { return o == "gid="+strconv.Itoa(ttyGroup) })
		}
	}
	if gids == 0 { // no group could be named
		p.Sysctl = slices.DeleteFunc(p.Sysctl, func(v keyValue) bool { return v.Key == "net.ipv4.ping_group_range" })
	}
	for i := range p.Sysctl {
		if v := &p.Sysctl[i]; v.Key == "net.ipv4.ping_group_range" {
			v.Value = clampRange(v.Value, gids)
		}
	}
	return nil
}

const ttyGroup = 5 // of terminals, in the specs of all runtimes

// clampRange limits "FROM TO" to groups that there are.
func clampRange(value string, count uint64) string {
	from, to, _ := strings.Cut(value, " ")
	n, err := strconv.ParseUint(to, 10, 32)
	if err != nil || n < count {
		return value
	}
	return fmt.Sprintf("%s %d", from, count-1)
}

// countIDs is how many ids from 0 on a map has without a gap.
func countIDs(file string) uint64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return math.MaxUint32
	}
	var list []specs.LinuxIDMapping
	for line := range strings.Lines(string(text)) {
		var m specs.LinuxIDMapping
		if _, err := fmt.Sscan(line, &m.ContainerID, &m.HostID, &m.Size); err == nil {
			list = append(list, m)
		}
	}
	return mappedFrom(list)
}

func mappedFrom(list []specs.LinuxIDMapping) uint64 {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b specs.LinuxIDMapping) int { return int(int64(a.ContainerID) - int64(b.ContainerID)) })
	next := uint64(0)
	for _, m := range list {
		if uint64(m.ContainerID) != next {
			break
		}
		next += uint64(m.Size)
	}
	return next
}

// deniesSetgroups tells whether processes of this namespace keep the groups they have (user_namespaces(7)).
func deniesSetgroups() bool {
	text, err := os.ReadFile("/proc/self/setgroups")
	return err == nil && strings.TrimSpace(string(text)) == "deny"
}

// hostDevice takes the machine's own node for a device, which nobody here can make: the one of that name, or else any.
func hostDevice(d *device) (int, error) {
	is := func(name string) bool {
		var st unix.Stat_t
		return unix.Lstat(name, &st) == nil && st.Mode&unix.S_IFMT == d.Mode&unix.S_IFMT && st.Rdev == d.Rdev
	}
	name := d.Path
	if !is(name) {
		name = ""
		filepath.WalkDir("/dev", func(found string, e fs.DirEntry, err error) error {
			if err == nil && e.Type()&fs.ModeDevice != 0 && is(found) {
				name = found
				return fs.SkipAll
			}
			return nil
		})
	}
	if name == "" {
		return -1, fmt.Errorf("%s: /dev has no node for device %d:%d, and in a user namespace none can be made", d.Path, unix.Major(d.Rdev), unix.Minor(d.Rdev))
	}
	return openTree(unix.AT_FDCWD, name, 0)
}

// nullDevice covers masked files. The machine's own does where none can be made.
func nullDevice(scratch int, userns bool) (int, error) {
	if userns {
		return openTree(unix.AT_FDCWD, os.DevNull, 0)
	}
	if err := unix.Mknodat(scratch, "null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		return -1, err
	}
	return openTree(scratch, "null", 0)
}

// bindSource takes a copy of what is mounted at a path. In a user namespace mounts that came from the machine
// stay together: what is mounted below comes along.
func (c *child) bindSource(m *mount) (int, error) {
	flags := uint(0)
	if m.Recursive {
		flags = unix.AT_RECURSIVE
	}
	fd, err := m.openSource(flags)
	if errors.Is(err, unix.EINVAL) && c.Userns && !m.Recursive {
		m.Recursive = true // for its attributes, too
		return m.openSource(unix.AT_RECURSIVE)
	}
	return fd, err
}

// userOutside is the user's id on the machine: what is root in a namespace of a user's is not the only one.
func userOutside() int {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil || !inUserns() {
		return os.Getuid()
	}
	for line := range strings.Lines(string(text)) {
		var inside, outside, count int
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err == nil && os.Getuid() >= inside && os.Getuid()-inside < count {
			return outside + os.Getuid() - inside
		}
	}
	return os.Getuid()
}
