package sandbox

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// idMaps are those of a user namespace that a sandbox begins with.
type idMaps struct {
	uids, gids []syscall.SysProcIDMap
	network    string     // the network namespace to begin in; empty: ours, or a new one
	sysctl     []keyValue // to be set there
}

// newIDMaps are the maps of a spec; nil: it shares ours. Where the user of the process is one that there is not
// in our own namespace, the process gets one in which we are that user: it then sees all that is root's as its own.
func newIDMaps(s *specs.Spec) (maps *idMaps, owner *rootfs.Owner) {
	if len(s.Linux.UIDMappings) > 0 {
		return &idMaps{uids: procMap(s.Linux.UIDMappings), gids: procMap(s.Linux.GIDMappings)}, nil
	}
	u := s.Process.User
	if u.UID == 0 && u.GID == 0 || !inUserns() || rootfs.HasOwner(int(u.UID), int(u.GID)) {
		return nil, nil
	}
	one := func(id uint32) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: int(id), HostID: 0, Size: 1}}
	}
	return &idMaps{uids: one(u.UID), gids: one(u.GID)}, &rootfs.Owner{UID: int(u.UID), GID: int(u.GID)}
}

func procMap(list []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(list))
	for i, m := range list {
		out[i] = syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)}
	}
	return out
}

// attributes has a copy of this program start in the namespace, with all rights in it. Where there is a root
// in it the copy becomes that; else it keeps the rights in spite of executing a program.
func (m *idMaps) attributes(a *syscall.SysProcAttr) {
	a.Cloneflags |= unix.CLONE_NEWUSER
	a.UidMappings, a.GidMappings = m.uids, m.gids
	a.GidMappingsEnableSetgroups = !inUserns() || !deniesSetgroups()
	for _, one := range m.uids {
		if one.ContainerID == 0 {
			a.Credential = &syscall.Credential{NoSetGroups: !a.GidMappingsEnableSetgroups}
			return
		}
	}
	for n := range kernelLastCap() + 1 {
		a.AmbientCaps = append(a.AmbientCaps, uintptr(n))
	}
}

// kernelLastCap is the highest capability of this kernel.
var kernelLastCap = sync.OnceValue(func() int {
	text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if n, nerr := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && nerr == nil {
		return n
	}
	return lastCap
})
