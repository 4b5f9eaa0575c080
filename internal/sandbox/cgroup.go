package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// cgroup holds the cgroups of one run: one directory per hierarchy of version 1, or one.
type cgroup struct {
	dirs   []string
	memory string           // the directory of the memory controller, or empty
	making func(dir string) // is told of each before it is made; may be nil
}

// hasLimits tells whether a run needs cgroups.
func hasLimits(l *specs.Linux) bool {
	r := l.Resources
	return l.CgroupsPath != "" || r != nil && (r.Memory != nil || r.CPU != nil || r.Pids != nil || r.BlockIO != nil || deviceRules(r) != nil)
}

// CgroupBelow is a new path for Linux.CgroupsPath, below parent: a path from the top of each
// hierarchy, with or without its first slash, or the name of a systemd slice (a-b.slice is in a.slice).
// What limits the parent so limits the run.
func CgroupBelow(parent string) string {
	if name, ok := strings.CutSuffix(parent, ".slice"); ok && !strings.Contains(parent, "/") {
		parent = ""
		for i, c := range name + "-" {
			if c == '-' && i > 0 {
				parent += "/" + name[:i] + ".slice"
			}
		}
	}
	return filepath.Join("/", parent, newCgroupName())
}

// makeCgroup makes cgroups with the limits of the spec. What cannot be limited here is
// a warning, or an error where that would give the process rights.
func (r *runner) makeCgroup() error {
	if !hasLimits(r.Spec.Linux) {
		return nil
	}
	name := newCgroupName()
	var failed []string
	var errs []error
	for _, l := range limits(r.Spec.Linux) {
		dir, v2, err := r.cgroup.dir(l.controller, r.Spec.Linux.CgroupsPath, name)
		if err == nil {
			err = l.write(dir, v2)
		}
		if err != nil && l.needed {
			return fail(l.name, err)
		}
		if err != nil {
			failed, errs = append(failed, l.what()), append(errs, err)
		}
	}
	r.status.Warnings = append(r.status.Warnings, limitWarnings(failed, errs)...)
	if r.plan.Outlives && r.Spec.Linux.CgroupsPath != "" {
		r.cgroup.makeAll(r.Spec.Linux.CgroupsPath)
	}
	for _, dir := range r.cgroup.dirs {
		r.plan.Cgroups = append(r.plan.Cgroups, filepath.Join(dir, "cgroup.procs"))
	}
	return nil
}

var cgroupCount atomic.Int64

// newCgroupName is a name no other run of this machine has: the counter tells runs of
// this process apart, the time processes of different namespaces with the same id.
func newCgroupName() string {
	return fmt.Sprintf("nacre-%d-%d-%x", os.Getpid(), cgroupCount.Add(1), time.Now().UnixNano())
}

// dir is the directory of this run's cgroup for a controller. It is made on first use.
func (g *cgroup) dir(controller, wanted, name string) (dir string, v2 bool, err error) {
	list, err := hierarchies()
	if err != nil {
		return "", false, err
	}
	i := slices.IndexFunc(list, func(h hierarchy) bool { return slices.Contains(strings.Split(h.controllers, ","), controller) })
	if i >= 0 {
		dir = leaf(firstVersionBase(list[i]), filepath.Join(cgroupRoot, list[i].controllers), wanted, name)
		err = g.make(dir)
		if err == nil && controller == "cpuset" {
			err = inheritCpuset(dir)
		}
	} else {
		v2 = true
		if controller == "blkio" {
			controller = "io" // its name since
		}
		dir, err = g.secondVersion(controller, wanted, name)
	}
	if err == nil && controller == "memory" {
		g.memory = dir
	}
	return dir, v2, err
}

// makeAll makes the cgroup in every hierarchy that it can be made in, for a process that others look after: they look for it where they
// said, and it is by them that it is paused, and all of it ended.
func (g *cgroup) makeAll(wanted string) {
	list, err := hierarchies()
	if err != nil || !filepath.IsAbs(wanted) {
		return
	}
	first := false
	for _, h := range list {
		top := filepath.Join(cgroupRoot, strings.TrimPrefix(h.controllers, "name="))
		_, err := os.Stat(filepath.Join(top, "cgroup.procs"))
		switch {
		case h.controllers == "" || err != nil: // not mounted: folders there would be no cgroups
		case strings.HasPrefix(h.controllers, "name="):
			g.make(leaf("", top, wanted, ""))
		default:
			first = true
			controller, _, _ := strings.Cut(h.controllers, ",")
			g.dir(controller, wanted, "")
		}
	}
	if !first {
		g.dir(devicesController, wanted, "") // which any cgroup of version 2 has
	}
}

// leaf places a cgroup: where the spec says, from the top if that is absolute, or as a
// child of our own, whose limits so hold for it, too.
func leaf(own, top, wanted, name string) string {
	switch {
	case wanted == "":
		return filepath.Join(own, name)
	case filepath.IsAbs(wanted):
		return filepath.Join(top, wanted)
	}
	return filepath.Join(own, filepath.Join("/", wanted))
}

// firstVersionBase is this process's own cgroup. In a container the hierarchy may be
// mounted from there, and the path is one the host sees.
func firstVersionBase(h hierarchy) string {
	top := filepath.Join(cgroupRoot, h.controllers)
	own := filepath.Join(top, h.path)
	if _, err := os.Stat(own); err != nil {
		return top
	}
	return own
}

// secondVersion makes the cgroup of version 2. Only cgroups without processes hand
// controllers to children, so it cannot be below our own.
func (g *cgroup) secondVersion(controller, wanted, name string) (string, error) {
	top, err := SecondBase()
	if err != nil {
		return "", err
	}
	parent := filepath.Join(top, "nacre")
	dir := leaf(parent, top, wanted, name)
	if controller == devicesController { // which is a program that any cgroup can have
		return dir, g.make(dir)
	}
	have, err := os.ReadFile(filepath.Join(top, "cgroup.controllers"))
	if err != nil || !slices.Contains(strings.Fields(string(have)), controller) {
		return "", noController(top, controller)
	}
	if err := g.make(dir); err != nil {
		return "", err
	}
	rel, err := filepath.Rel(top, filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	at := top
	for _, part := range append([]string{"."}, strings.Split(rel, "/")...) {
		at = filepath.Join(at, part)
		if err := writeFile(filepath.Join(at, "cgroup.subtree_control"), "+"+controller); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func (g *cgroup) make(dir string) error {
	if slices.Contains(g.dirs, dir) {
		return nil
	}
	if g.making != nil {
		g.making(dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	g.dirs = append(g.dirs, dir)
	return nil
}

// inheritCpuset fills what version 1 leaves empty, in which nothing can run, from the
// top, which never is.
func inheritCpuset(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		if _, err := inherited(dir, file); err != nil {
			return err
		}
	}
	return nil
}

func inherited(dir, file string) (value string, err error) {
	have, err := os.ReadFile(filepath.Join(dir, file))
	if value = string(bytes.TrimSpace(have)); err != nil || value != "" {
		return value, err
	}
	if value, err = inherited(filepath.Dir(dir), file); err != nil {
		return "", err
	}
	return value, writeFile(filepath.Join(dir, file), value)
}

// oomKilled tells whether the memory limit cost a process its life.
func (g *cgroup) oomKilled() bool {
	if g.memory == "" {
		return false
	}
	for _, file := range []string{"memory.oom_control", "memory.events"} {
		data, _ := os.ReadFile(filepath.Join(g.memory, file))
		for line := range strings.Lines(string(data)) {
			if n, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
				return n != "0"
			}
		}
	}
	return false
}
