package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"nacre/internal/sandbox"
)

// enterCgroup moves the processes of a container into a cgroup: those of the process namespace that pid is the first of,
// or, where it is a guest in another's, those of the cgroups it has for that reason. New ones are born where their
// parents are, so that a few rounds get them all.
func enterCgroup(dir string, pid int, cgroups []string) error {
	find := func() ([]int, error) { return inCgroup(cgroups) }
	if isFirst(pid) {
		find = func() ([]int, error) { return inNamespace(pid) }
	} else if len(cgroups) == 0 {
		return errors.New("its processes cannot be told from those of others: it has no process namespace, nor a cgroup")
	}
	for range 100 {
		inside, err := inCgroup([]string{dir})
		if err != nil {
			return err
		}
		have := map[int]bool{}
		for _, p := range inside {
			have[p] = true
		}
		pids, err := find()
		if err != nil {
			return err
		}
		moved := false
		for _, p := range pids {
			if have[p] {
				continue
			}
			err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(p)), 0)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
			moved = true
		}
		if !moved {
			return nil
		}
	}
	return errors.New("it starts processes too fast")
}

// isFirst tells whether a process is the first of its process namespace, which is not ours then.
func isFirst(pid int) bool {
	ids := sandbox.NamespaceIDs(pid)
	return len(ids) > 1 && ids[len(ids)-1] == "1"
}

// inNamespace lists the processes of the process namespace that pid is in.
func inNamespace(pid int) (list []int, err error) {
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return nil, err
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range procs {
		p, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ns, err := os.Readlink("/proc/" + e.Name() + "/ns/pid"); err == nil && ns == want {
			list = append(list, p)
		}
	}
	return list, nil
}

// inCgroup lists the processes of cgroups and of all that are within.
func inCgroup(dirs []string) (list []int, err error) {
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return err
			}
			data, err := os.ReadFile(filepath.Join(name, "cgroup.procs"))
			for _, s := range strings.Fields(string(data)) {
				if p, err := strconv.Atoi(s); err == nil && p > 0 {
					list = append(list, p)
				}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}
