package sandbox

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// typeWithin is the type of a bind mount whose source is a directory, a NUL, and a path in it.
const typeWithin = "nacre-within"

// MountWithin is a bind mount of a path within the directory dir of the host. Symlinks in there lead around in
// dir, never out of it, whoever changes them meanwhile; dir itself is no symlink.
func MountWithin(dest, dir, path string, options ...string) specs.Mount {
	if path == "" {
		path = "."
	}
	return specs.Mount{Destination: dest, Type: typeWithin, Source: dir + "\x00" + path, Options: options}
}

// openSource takes a copy of what is bound.
func (m *mount) openSource(flags uint) (int, error) {
	if m.Foreign {
		return openForeign(m.Source, m.Within)
	}
	if err := m.checkPropagation(); err != nil {
		return -1, err
	}
	if m.Within == "" {
		return openTree(unix.AT_FDCWD, m.Source, flags)
	}
	dir, err := unix.Open(m.Source, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	fd, err := openIn(dir, m.Within, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return openTree(fd, "", flags|unix.AT_EMPTY_PATH)
}

// keepDevices: what was a device node when the mount was planned, and is something else by now, has no devices that work.
func (c *child) keepDevices(m *mount, fd int) error {
	if !m.DeviceNode || c.AllDevices {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		m.Set |= unix.MOUNT_ATTR_NODEV
		m.Clear &^= unix.MOUNT_ATTR_NODEV
	}
	return nil
}

// propagation is what mount_setattr(2) is told: a copy of a shared mount is shared already.
func (m *mount) propagation() uint64 {
	return m.Propagate &^ (unix.MS_REC | unix.MS_SHARED)
}

// dress gives a bind mount its attributes. What keeps devices from working is for all that is mounted below, too,
// whatever the spec says of the rest; and what is done below shows on the host only where that was asked for.
func (m *mount) dress(fd int) error {
	if err := setAttr(fd, m.Set, m.Clear, m.propagation(), m.All); err != nil || !m.Recursive {
		return err
	}
	below := m.propagation()
	if m.Propagate&unix.MS_REC == 0 && below == unix.MS_PRIVATE {
		below = unix.MS_SLAVE
	}
	if err := setAttr(fd, m.Set&unix.MOUNT_ATTR_NODEV, 0, below, true); err != nil || below == m.propagation() {
		return err
	}
	return setAttr(fd, 0, 0, m.propagation(), false)
}

// checkPropagation refuses to share what the host does not share: nothing would come through, unnoticed.
func (m *mount) checkPropagation() error {
	want := m.Propagate &^ unix.MS_REC
	if want != unix.MS_SHARED && want != unix.MS_SLAVE {
		return nil
	}
	fd, err := unix.Open(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	id, err := mountID(fd)
	if err != nil {
		return err
	}
	place, shared, slave, err := peers(id)
	switch {
	case err != nil:
		return err
	case want == unix.MS_SHARED && !shared:
		return fmt.Errorf("it is mounted on %s, which is not a shared mount", place)
	case want == unix.MS_SLAVE && !shared && !slave:
		return fmt.Errorf("it is mounted on %s, which is not a shared or slave mount", place)
	}
	return nil
}

// peers reads of a mount where it is and what it exchanges mounts with (proc_pid_mountinfo(5)).
func peers(id uint64) (place string, shared, slave bool, err error) {
	f, err := os.Open("/proc/thread-self/mountinfo") // the thread may have mounts of its own
	if err != nil {
		return "", false, false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 7 || fields[0] != strconv.FormatUint(id, 10) {
			continue
		}
		for _, tag := range fields[6:] {
			if tag == "-" {
				break
			}
			shared = shared || strings.HasPrefix(tag, "shared:")
			slave = slave || strings.HasPrefix(tag, "master:")
		}
		return fields[4], shared, slave, nil
	}
	if err := lines.Err(); err != nil {
		return "", false, false, err
	}
	return "", false, false, fmt.Errorf("mount %d is not in /proc/thread-self/mountinfo", id)
}
