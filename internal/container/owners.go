package container

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nacre/internal/rootfs"
	"nacre/internal/sandbox"

	"golang.org/x/sys/unix"
)

// ownersFile has the owners of links and pipes in the writable side, where the user namespace lacks them and no attribute can
// have them: a line each, the latest of an inode counts. Its monitor adds to it as they are given.
const ownersFile = "owners"

// ownerFormat is inode, time of its making (seconds, nanoseconds), time of change (nanoseconds), user, group and path.
const ownerFormat = "%d %d %d %d %d %d %q\n"

func formatOwner(r rootfs.Recorded) string {
	return fmt.Sprintf(ownerFormat, r.Ino, r.Born.Sec, r.Born.Nsec, r.MTime, r.UID, r.GID, r.Path)
}

// parseOwners reads such lines. One that was cut off by a full disk or a kill is left out.
func parseOwners(r io.Reader) ([]rootfs.Recorded, error) {
	var list []rootfs.Recorded
	at := map[uint64]int{}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		var one rootfs.Recorded
		n, err := fmt.Sscanf(line, ownerFormat, &one.Ino, &one.Born.Sec, &one.Born.Nsec, &one.MTime, &one.UID, &one.GID, &one.Path)
		if err != nil || n != 7 || one.UID < 0 || one.GID < 0 {
			continue
		}
		if i, again := at[one.Ino]; again {
			list[i] = one
			continue
		}
		at[one.Ino] = len(list)
		list = append(list, one)
	}
}

// recorded reads the container's.
func (c *Container) recorded() ([]rootfs.Recorded, error) {
	f, err := os.Open(filepath.Join(c.dir, ownersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseOwners(f)
}

// addOwner adds a line.
func (c *Container) addOwner(r rootfs.Recorded) error {
	f, err := os.OpenFile(filepath.Join(c.dir, ownersFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(formatOwner(r)) // one write: lines of two do not mix
	return err
}

// keptOwners is what the container's processes are served with; nil where all owners are real.
func (m *monitor) keptOwners() (*sandbox.Owners, error) {
	if m.owners != nil || !rootfs.UserXattr() {
		return m.owners, nil
	}
	known, err := m.c.recorded()
	if err != nil {
		return nil, fmt.Errorf("owners of links: %w", err)
	}
	if err := m.c.rewriteOwners(known); err != nil {
		return nil, fmt.Errorf("owners of links: %w", err)
	}
	m.owners = sandbox.NewOwners(known, func(r rootfs.Recorded) {
		if err := m.c.addOwner(r); err != nil {
			m.set(func(st *State) {
				text := "an owner of /" + r.Path + " is not kept: " + err.Error()
				if len(st.Warnings) < maxWarnings && !slices.Contains(st.Warnings, text) {
					st.Warnings = append(st.Warnings, text)
				}
			})
		}
	})
	return m.owners, nil
}

// maxWarnings is how many of these a state has.
const maxWarnings = 20

// rewriteOwners leaves one line of each.
func (c *Container) rewriteOwners(list []rootfs.Recorded) error {
	if len(list) == 0 {
		return nil
	}
	var b strings.Builder
	for _, r := range list {
		b.WriteString(formatOwner(r))
	}
	name := filepath.Join(c.dir, ownersFile)
	if info, err := os.Stat(name); err == nil && info.Size() == int64(b.Len()) {
		return nil
	}
	if err := os.WriteFile(name+".new", []byte(b.String()), 0o600); err != nil {
		os.Remove(name + ".new")
		if errors.Is(err, unix.ENOSPC) {
			return nil // the longer one says the same
		}
		return err
	}
	return os.Rename(name+".new", name)
}

// recordOwner is for somebody else who gave a link in the root an owner.
func (m *monitor) recordOwner(r *rootfs.Recorded) error {
	if m.owners == nil || r == nil {
		return ErrNotRunning
	}
	m.owners.Record(*r)
	return nil
}
