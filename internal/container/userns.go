package container

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// UsernsAuto is the value of Security.Userns for a user namespace of the container's own: its root is nobody on the
// machine.
const UsernsAuto = "auto"

// Ids of containers: each gets idCount of them, out of those that nothing else uses by default (systemd's
// UIDS-GIDS.md has 524288 to 1879048191 for containers).
const (
	idCount = 1 << 16
	idFirst = 524288
	idEnd   = 1879048192
)

// addUserns gives the container a user namespace. Which ids of the machine it has matters only while it runs: what it writes
// has on disk the ids it has inside.
func (p *parts) addUserns(context.Context) error {
	if p.c.Config.Security.Userns != UsernsAuto {
		return nil
	}
	first, held, err := containerIDs(p.c.ID)
	if err != nil {
		return err
	}
	p.ids = held
	l := p.spec.Linux
	l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	l.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: first, Size: idCount}}
	l.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: first, Size: idCount}}
	return nil
}

// mapVolumes has volumes show in that namespace as they do in others: what is root's is its root's.
func (p *parts) mapVolumes(context.Context) error {
	if p.c.Config.Security.Userns != UsernsAuto {
		return nil
	}
	volumes := filepath.Join(p.c.cs.s.Root(), "volumes") + "/"
	for i := range p.spec.Mounts {
		if m := &p.spec.Mounts[i]; strings.HasPrefix(m.Source, volumes) {
			m.Options = append(m.Options, "idmap")
		}
	}
	return nil
}

// idsFile is where containers of all stores of the machine hold their ids: the n-th byte of it stands for the n-th range, and is locked by
// who has that. A lock goes with its owner, however that ends.
var idsFile = "/run/nacre/ids"

// containerIDs takes ids that no other container has, until held is closed. The container's own id says where to look first,
// so that it mostly has the same ones again. Those that an administrator has given to somebody in /etc/subuid or /etc/subgid
// are passed over.
func containerIDs(id string) (first uint32, held *os.File, err error) {
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) < 8 {
		return 0, nil, fmt.Errorf("container %q: not an id", id)
	}
	if err := os.MkdirAll(filepath.Dir(idsFile), 0o755); err != nil {
		return 0, nil, fmt.Errorf("--userns=auto: ids are held by locks: %w", err)
	}
	held, err = os.OpenFile(idsFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, nil, fmt.Errorf("--userns=auto: ids are held by locks: %w", err)
	}
	const slots = (idEnd - idFirst) / idCount
	taken := append(givenIDs("/etc/subuid"), givenIDs("/etc/subgid")...)
	at := binary.BigEndian.Uint64(raw) % slots
	for range slots {
		first := idFirst + at*idCount
		if !overlaps(taken, first) {
			lock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(at), Len: 1}
			switch err := unix.FcntlFlock(held.Fd(), unix.F_OFD_SETLK, &lock); {
			case err == nil:
				return uint32(first), held, nil
			case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES):
				held.Close()
				return 0, nil, &os.PathError{Op: "lock", Path: idsFile, Err: err}
			}
		}
		at = (at + 1) % slots
	}
	held.Close()
	return 0, nil, fmt.Errorf("no %d ids are left for a container: others have all, by /etc/subuid and /etc/subgid or as containers", idCount)
}

func overlaps(taken [][2]uint64, first uint64) bool {
	for _, t := range taken {
		if t[0] < first+idCount && first < t[0]+t[1] {
			return true
		}
	}
	return false
}

// givenIDs are the ranges of subuid(5), as START and COUNT.
func givenIDs(file string) (list [][2]uint64) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 {
			continue
		}
		start, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 == nil && err2 == nil {
			list = append(list, [2]uint64{start, count})
		}
	}
	return list
}
