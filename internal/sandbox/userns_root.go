package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A sandbox that root gives a user namespace of its own cannot mount its root itself, nor open what is bound from places that
// only root sees. We do, and hand over mounts whose ids are those of the namespace.

// usernsScratch is scratchDir for those sandboxes: they are not root where it is looked for.
const usernsScratch = "/run/nacre-userns"

// adopt does for a copy in a user namespace of its own what it may not do itself; given are descriptors that go with the plan.
func (r *runner) adopt() (given []int, err error) {
	if inUserns() {
		return nil, nil
	}
	defer func() {
		if err != nil {
			closeAll(given)
			given = nil
		}
	}()
	if len(r.plan.Trees) > 0 {
		return nil, errors.New("mounts of images are not supported with a user namespace of the container's own")
	}
	pid := r.process.Pid
	userns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open user namespace: %w", err)
	}
	defer unix.Close(userns)
	for _, file := range r.plan.Cgroups {
		if err := writeFile(file, fmt.Sprint(pid)); err != nil {
			return nil, err
		}
	}
	r.plan.Cgroups = nil
	if err := os.MkdirAll(usernsScratch, 0o755); err != nil {
		return nil, err
	}
	r.plan.Scratch, r.plan.RootGiven = usernsScratch, true
	root, err := r.Root.Mapped(userns, rootfs.Owner{UID: outside(r.Spec.Linux.UIDMappings, 0), GID: outside(r.Spec.Linux.GIDMappings, 0)})
	if err != nil {
		return nil, err
	}
	given = append(given, root)
	for i := range r.plan.Mounts {
		m := &r.plan.Mounts[i]
		if m.IsFile || m.Type != "" {
			continue
		}
		fd, err := r.openForeign(m, userns)
		if err != nil {
			return given, fmt.Errorf("bind %s: %w", m.Source, err)
		}
		given, r.plan.Given = append(given, fd), append(r.plan.Given, i)
	}
	return given, r.giveStreams()
}

// giveRoot hands over a root that is a directory, as it is.
func (r *runner) giveRoot(userns bool) (given []int, err error) {
	if userns && !inUserns() {
		for _, file := range r.plan.Cgroups {
			if err := writeFile(file, fmt.Sprint(r.process.Pid)); err != nil {
				return nil, err
			}
		}
		r.plan.Cgroups, r.plan.Scratch = nil, usernsScratch
		if err := os.MkdirAll(usernsScratch, 0o755); err != nil {
			return nil, err
		}
	}
	fd, err := openTree(unix.AT_FDCWD, r.RootDir, unix.AT_RECURSIVE)
	if err != nil {
		return nil, fmt.Errorf("root %s: %w", r.RootDir, err)
	}
	return []int{fd}, nil
}

// openForeign takes a copy of what a mount of the plan binds, with mapped ids where that was asked for.
func (r *runner) openForeign(m *mount, userns int) (int, error) {
	flags := uint(0)
	if m.Recursive {
		flags = unix.AT_RECURSIVE
	}
	fd, err := m.openSource(flags)
	if err == nil && m.Mapped {
		if err = rootfs.MapIDs(fd, userns); err != nil {
			unix.Close(fd)
		}
	}
	return fd, err
}

// giveStreams makes our pipes the user's, as the machine sees it: the sandbox has no right to.
func (r *runner) giveStreams() error {
	uid, gid := outside(r.Spec.Linux.UIDMappings, r.plan.User.UID), outside(r.Spec.Linux.GIDMappings, r.plan.User.GID)
	for fd, own := range r.plan.OwnStdio {
		if f := r.streams.theirs[fd]; own && f != nil {
			if err := f.Chown(uid, gid); err != nil {
				return fmt.Errorf("give standard streams to the user: %w", err)
			}
		}
	}
	return nil
}

// takeGiven sorts the descriptors that came with a plan.
func (c *child) takeGiven(fds []int) error {
	if !c.RootGiven {
		closeAll(fds)
		return nil
	}
	if len(fds) != 1+len(c.Given) {
		return fail("receive plan", fmt.Errorf("%d mounts came with it, not %d", len(fds), 1+len(c.Given)))
	}
	c.givenRoot, c.givenMounts = fds[0], map[int]int{}
	for i, n := range c.Given {
		c.givenMounts[n] = fds[1+i]
	}
	return nil
}

// attach puts the root where it is to be left for.
func (c *child) attach(scratch int) error {
	if !c.RootGiven {
		if err := unix.Mkdirat(scratch, "aside", 0o700); err != nil {
			return err
		}
		return c.Root.AttachAside(filepath.Join(c.Scratch, bundleRoot), filepath.Join(c.Scratch, "aside"))
	}
	defer unix.Close(c.givenRoot)
	return unix.MoveMount(c.givenRoot, "", scratch, bundleRoot, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// outside is what an id of a namespace is on the machine; -1 if it is none, which is nobody's.
func outside(list []specs.LinuxIDMapping, id uint32) int {
	for _, m := range list {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return int(m.HostID + id - m.ContainerID)
		}
	}
	return -1
}
