package sandbox

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// remove takes the cgroups away, with whatever is still in them.
func (g *cgroup) remove() {
	for _, dir := range g.dirs {
		removeCgroup(dir)
	}
}

// kill ends all that is in the cgroups.
func (g *cgroup) kill() {
	for range 200 {
		left := false
		for _, dir := range g.dirs {
			left = killCgroup(dir) || left
		}
		if !left {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// within lists a cgroup and those in it, which a process makes that may write to its own; the innermost first.
func within(dir string) (list []string) {
	filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			list = append(list, name)
		}
		return nil // what is gone needs nothing
	})
	slices.Reverse(list)
	return list
}

// killCgroup ends what is in a cgroup and those within it, and tells whether there was something. The kernel does it at
// once (cgroup.kill, Linux 5.14); before, and in version 1, a process that starts others may be quicker than we are,
// and the caller comes back.
func killCgroup(dir string) (found bool) {
	inside := within(dir)
	for _, d := range inside {
		data, _ := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		found = found || len(bytes.TrimSpace(data)) > 0
	}
	if found && writeFile(filepath.Join(dir, "cgroup.kill"), "1") == nil {
		return true
	}
	for _, d := range inside {
		data, _ := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		for _, field := range bytes.Fields(data) {
			if pid, err := strconv.Atoi(string(field)); err == nil && pid > 1 {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	return found
}

// removeCgroup kills what is in a cgroup and removes it, with all that is within. The kernel counts
// processes out a moment after they ended.
func removeCgroup(dir string) {
	for range 200 {
		err := unix.Rmdir(dir)
		if err == nil || !errors.Is(err, unix.EBUSY) {
			return
		}
		killCgroup(dir)
		for _, d := range within(dir) {
			err = unix.Rmdir(d)
		}
		if err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
