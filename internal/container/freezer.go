package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nacre/internal/sandbox"
)

const cgroupRoot = "/sys/fs/cgroup"

// freezer is a cgroup whose processes can be stopped without their notice. It is made when a container is
// paused for the first time, and all of its processes are moved there.
type freezer struct {
	dir string
	own bool // made here, to be removed
}

// newFreezer finds one for a container. One of its own is still to be made.
func newFreezer(id string, cgroups []string) (*freezer, error) {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "freezer", "cgroup.procs")); err == nil {
		return &freezer{dir: filepath.Join(cgroupRoot, "freezer", "nacre-"+id), own: true}, nil
	}
	for _, dir := range cgroups {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.freeze")); err == nil {
			return &freezer{dir: dir}, nil
		}
	}
	for _, top := range []string{cgroupRoot, filepath.Join(cgroupRoot, "unified")} {
		if _, err := os.Stat(filepath.Join(top, "cgroup.procs")); err != nil {
			continue
		}
		base, err := sandbox.SecondBase()
		if err != nil {
			return nil, fmt.Errorf("the container cannot be paused here: it takes a cgroup: %w", err)
		}
		return &freezer{dir: filepath.Join(base, "nacre-"+id), own: true}, nil
	}
	return nil, errors.New("this system has no freezer cgroups")
}

func (f *freezer) make() error {
	if !f.own {
		return nil
	}
	err := os.Mkdir(f.dir, 0o755)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("the container cannot be paused here: it takes a cgroup, and none can be made: %w", err)
	}
	return nil
}

// enter moves the container's processes, of which pid is the first, into the cgroup.
func (f *freezer) enter(pid int, cgroups []string) error {
	if !f.own {
		return nil
	}
	if err := enterCgroup(f.dir, pid, cgroups); err != nil {
		return fmt.Errorf("the container cannot be paused here: %w", err)
	}
	return nil
}

// set stops the processes, or lets them go on, and waits until that is so.
func (f *freezer) set(frozen bool) error { return sandbox.Freeze(f.dir, frozen) }

// remove takes the cgroup away once nothing is in it.
func (f *freezer) remove() {
	if f == nil || !f.own {
		return
	}
	for range 100 {
		if err := unix.Rmdir(f.dir); !errors.Is(err, unix.EBUSY) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// pause stops all processes of the container.
func (m *monitor) pause() error {
	m.mu.Lock()
	st := m.state
	f := m.frozen
	m.mu.Unlock()
	switch {
	case st.Status == StatusPaused:
		return errors.New("Container is already paused") //lint:ignore ST1005 docker's words
	case st.Status != StatusRunning:
		return ErrNotRunning
	}
	if m.runtime != nil {
		return m.pauseWith(st.Cgroups)
	}
	if f == nil {
		var err error
		if f, err = newFreezer(m.c.ID, st.Cgroups); err != nil {
			return err
		}
	}
	// It is noted first: were we killed, others find what to thaw.
	if err := m.set(func(now *State) { now.Freezer, m.frozen = f.dir, f }); err != nil {
		return err
	}
	if err := f.make(); err != nil {
		m.set(func(now *State) { now.Freezer, m.frozen = "", nil })
		return err
	}
	if err := f.enter(st.Pid, st.Cgroups); err != nil {
		return err
	}
	if err := f.set(true); err != nil {
		f.set(false)
		return err
	}
	return m.set(func(now *State) {
		if now.Status == StatusRunning { // else it ended meanwhile
			now.Status = StatusPaused
		}
	})
}

// unpause lets them go on.
func (m *monitor) unpause() error {
	m.mu.Lock()
	paused := m.state.Status == StatusPaused
	m.mu.Unlock()
	if !paused {
		return errors.New("Container is not paused") //lint:ignore ST1005 docker's words
	}
	return m.thaw()
}

// thaw is unpause of a container that may not be paused.
func (m *monitor) thaw() error {
	if m.runtime != nil {
		return m.thawWith()
	}
	m.mu.Lock()
	f := m.frozen
	m.mu.Unlock()
	if f == nil {
		return nil
	}
	if err := f.set(false); err != nil {
		return err
	}
	return m.set(func(st *State) {
		if st.Status == StatusPaused {
			st.Status = StatusRunning
		}
	})
}

// removeLost removes the cgroups of a container whose monitor was killed, and the container with it.
func removeLost(dirs []string) {
	for _, dir := range dirs {
		(&freezer{dir: dir, own: strings.HasPrefix(filepath.Base(dir), "nacre-")}).remove()
	}
}

// thawLost lets what a monitor froze that was killed go on, so that it can die, and removes its freezer.
func thawLost(dir string) {
	if dir == "" {
		return
	}
	f := &freezer{dir: dir, own: strings.HasPrefix(filepath.Base(dir), "nacre-")}
	f.set(false)
	f.remove()
}
