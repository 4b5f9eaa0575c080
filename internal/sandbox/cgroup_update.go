package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Limit changes the limits of a sandbox that runs, whose cgroups are dirs (Started.Cgroups): those that r names, and no
// others. Where it has no cgroup of a controller one is made, named by made: the sandbox's processes have yet to become
// members of it, and the caller removes it at their end (RemoveCgroups). What cannot be limited here is an error;
// what belongs to a limit and is not to be had, such as that of swap, a warning.
func Limit(dirs []string, r *specs.LinuxResources) (made, warnings []string, err error) {
	g := cgroup{dirs: slices.Clone(dirs)}
	defer func() {
		if made = g.dirs[len(dirs):]; err != nil {
			RemoveCgroups(made)
			made = nil
		}
	}()
	name := newCgroupName()
	list := resourceLimits(r)
	var failed []string
	var errs []error
	for i, l := range list {
		err := g.change(l, dirs, name)
		if errors.Is(err, unix.EINVAL) && i+1 < len(list) && list[i+1].name == swapName && g.change(list[i+1], dirs, name) == nil {
			err = g.change(l, dirs, name) // version 1 has no limit above that of memory and swap together
		}
		if err != nil && l.name == "" {
			return nil, nil, fmt.Errorf("%s: %w", l.what(), err)
		}
		if err != nil {
			failed, errs = append(failed, l.what()), append(errs, err)
		}
	}
	return nil, limitWarnings(failed, errs), nil
}

// change sets one limit, in the cgroup among dirs that is of its controller, or in a new one called name.
func (g *cgroup) change(l limit, dirs []string, name string) error {
	wanted, err := placeAmong(l.controller, dirs)
	if err != nil {
		return err
	}
	dir, v2, err := g.dir(l.controller, wanted, name)
	if err != nil {
		return err
	}
	return l.write(dir, v2)
}

// placeAmong is the path of that of dirs which is in a controller's hierarchy, as secondVersion and leaf take it: from the top of
// the hierarchy, or, in version 2, of what is delegated to us. Empty: none is.
func placeAmong(controller string, dirs []string) (string, error) {
	list, err := hierarchies()
	if err != nil {
		return "", err
	}
	top := ""
	if i := slices.IndexFunc(list, func(h hierarchy) bool { return slices.Contains(strings.Split(h.controllers, ","), controller) }); i >= 0 {
		top = filepath.Join(cgroupRoot, list[i].controllers)
	} else if top, err = SecondBase(); err != nil {
		return "", err
	}
	for _, dir := range dirs {
		if rest, ok := strings.CutPrefix(dir, top+"/"); ok {
			return "/" + rest, nil
		}
	}
	return "", nil
}

// RemoveCgroups removes cgroups, with whatever is still in them.
func RemoveCgroups(dirs []string) {
	for _, dir := range dirs {
		removeCgroup(dir)
	}
}

// OutOfMemory tells whether the memory limit of one of these cgroups cost a process its life.
func OutOfMemory(dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		g := cgroup{memory: dir}
		return g.oomKilled()
	})
}
