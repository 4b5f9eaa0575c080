package container

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
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
	first, err := containerIDs(p.c.ID)
	if err != nil {
		return err
	}
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

// containerIDs chooses ids by the container's own, so that no two are likely to share them. Those that an administrator
// has given to somebody in /etc/subuid or /etc/subgid are passed over.
func containerIDs(id string) (uint32, error) {
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) < 8 {
		return 0, fmt.Errorf("container %q: not an id", id)
	}
	const slots = (idEnd - idFirst) / idCount
	taken := append(givenIDs("/etc/subuid"), givenIDs("/etc/subgid")...)
	at := binary.BigEndian.Uint64(raw) % slots
	for range slots {
		first := idFirst + at*idCount
		if !overlaps(taken, first) {
			return uint32(first), nil
		}
		at = (at + 1) % slots
	}
	return 0, fmt.Errorf("no %d ids are left for a container: /etc/subuid and /etc/subgid give all to others", idCount)
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
