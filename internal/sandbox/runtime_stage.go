package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// An OCI runtime is told of a root and of what to mount by paths. What we mount has none: layers are mounts that only an overlay knows,
// trees and files are made for the run, and of a path within a volume we hold what it was when it was looked up. So all of it is put
// into a bundle, in a mount namespace that is that of one thread and of the runtime, which the thread starts there. The container's own
// namespace is made out of it; when the thread ends, nothing else of it is left.

// stage is what is put together for a runtime.
type stage struct {
	child
	spec specs.Spec // config.json
	self int        // this program, for a mount of the type selfType
}

// selfType is the type of a mount of this program. It is taken before there is another mount namespace, from which it cannot be.
const selfType = "nacre-self"

// stagedDir is the directory of the bundle in which mounts lie, by number.
const stagedDir = "mounts"

// onStage puts a bundle together and calls use with its path, on the only thread that sees it.
func onStage(c *Config, spec *specs.Spec, use func(bundle string) error) error {
	scratch, err := scratchDir()
	if err != nil {
		return err
	}
	s := &stage{spec: *spec}
	if err := s.plan.stage(c, &s.spec, scratch); err != nil {
		return err
	}
	if c.Init {
		if s.self, err = readonlySelf(); err != nil {
			return err
		}
	}
	result := make(chan error)
	onThread(func() {
		defer s.close()
		err := s.make()
		if err == nil {
			err = use(scratch)
		}
		result <- err
	})
	return <-result
}

// stage plans the bundle, and changes spec to what is to be in it. Of plan.Mounts those with a Type are there only to
// have a place to be mounted on.
func (p *plan) stage(c *Config, spec *specs.Spec, scratch string) error {
	all := allDevices(spec.Linux.Resources) || deviceRules(spec.Linux.Resources) != nil
	*p = plan{Root: c.Root, Trees: c.Trees, Scratch: scratch, AllDevices: all, Userns: inUserns()}
	var mounts []specs.Mount
	for _, m := range spec.Mounts {
		list, err := newMounts(&specs.Spec{Mounts: []specs.Mount{m}, Linux: spec.Linux}, nil, all)
		if err != nil {
			return err
		}
		if m.Type == selfType || len(list) == 1 && (list[0].Type == "" || list[0].Type == typeTree) {
			m = staged(scratch, len(p.Mounts), &list[0])
			p.Mounts = append(p.Mounts, list[0])
		} else {
			p.Mounts = append(p.Mounts, mount{Dest: path.Clean(m.Destination), Type: m.Type})
			m.Options = lastOptions(m.Options)
		}
		mounts = append(mounts, m)
	}
	files, err := newMounts(&specs.Spec{Linux: spec.Linux}, c.Files, all)
	if err != nil {
		return err
	}
	for _, f := range files {
		mounts = append(mounts, staged(scratch, len(p.Mounts), &f))
		p.Mounts = append(p.Mounts, f)
	}
	spec.Mounts = mounts
	spec.Root = &specs.Root{Path: filepath.Join(scratch, bundleRoot), Readonly: spec.Root != nil && spec.Root.Readonly}
	p.Config, err = json.Marshal(spec)
	return err
}

// staged is a mount of what lies in the bundle with all its attributes. Some runtimes take away those that they are not told of; and how it
// exchanges mounts with the machine has to be said again.
func staged(scratch string, n int, m *mount) specs.Mount {
	out := specs.Mount{Destination: m.Dest, Type: "bind", Source: filepath.Join(scratch, stagedDir, strconv.Itoa(n)), Options: []string{"rbind"}}
	for _, a := range attributes {
		if m.Set&a.bit != 0 {
			out.Options = append(out.Options, a.on)
		}
	}
	for _, p := range [...]struct {
		flag uint64
		name string
	}{{unix.MS_SHARED, "shared"}, {unix.MS_SLAVE, "slave"}, {unix.MS_UNBINDABLE, "unbindable"}, {unix.MS_PRIVATE, "private"}} {
		if m.Propagate&p.flag == 0 {
			continue
		}
		if m.Propagate&unix.MS_REC != 0 {
			p.name = "r" + p.name
		}
		out.Options = append(out.Options, p.name)
	}
	return out
}

// lastOptions leaves out options that later ones undo: crun adds up what is to be set.
func lastOptions(list []string) (out []string) {
	for i, o := range list {
		undone := slices.ContainsFunc(attributes[:], func(a attribute) bool {
			return o == a.on && slices.Contains(list[i:], a.off) || o == a.off && slices.Contains(list[i:], a.on)
		})
		if !undone {
			out = append(out, o)
		}
	}
	return out
}

// make puts it together, in a new mount namespace of this thread.
func (s *stage) make() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	s.created = func(string) error { return nil }
	s.init()
	for _, step := range []func() error{s.openSources, s.attachRoot, s.place} {
		if err := step(); err != nil {
			return err
		}
	}
	return oneCgroupVersion()
}

// place puts mounts where the runtime finds them.
func (s *stage) place() error {
	if err := os.Mkdir(filepath.Join(s.Scratch, stagedDir), 0o755); err != nil {
		return err
	}
	for i, source := range s.sources {
		if s.Mounts[i].Type == selfType {
			source, s.sources[i] = s.self, s.self // which is closed with the others
		}
		if source < 0 {
			continue
		}
		name := filepath.Join(s.Scratch, stagedDir, strconv.Itoa(i))
		if err := mknod(unix.AT_FDCWD, name, isDir(source)); err != nil {
			return &os.PathError{Op: "make", Path: name, Err: err}
		}
		if err := unix.MoveMount(source, "", unix.AT_FDCWD, name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount %s: %w", s.Mounts[i].Dest, err)
		}
	}
	return nil
}

// bothVersions tells whether cgroups of version 2 have controllers beside some of version 1. crun refuses such machines.
func bothVersions() bool {
	have, err := os.ReadFile(filepath.Join(cgroupRoot, "unified", "cgroup.controllers"))
	return err == nil && len(have) > 0
}

// oneCgroupVersion hides the cgroups of version 2 from this thread's mount namespace, where the others have all that counts.
func oneCgroupVersion() error {
	if !bothVersions() {
		return nil
	}
	dir := filepath.Join(cgroupRoot, "unified")
	// It can be written to: crun makes a folder in it all the same, and a file cgroup.procs.
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k,mode=755"); err != nil {
		return &os.PathError{Op: "cover", Path: dir, Err: err}
	}
	return nil
}

// besides calls f on a thread where a runtime that is called once more finds what it remembers: a root where that was
// (runc begins there, whatever it is), and cgroups that it can deal with.
func besides(f func() error) error {
	scratch, err := scratchDir()
	if err != nil {
		return err
	}
	result := make(chan error)
	onThread(func() {
		err := os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNS))
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
		}
		if err == nil {
			err = unix.Mount("none", scratch, "tmpfs", 0, "size=64k,mode=700")
		}
		if err == nil {
			err = os.Mkdir(filepath.Join(scratch, bundleRoot), 0o755)
		}
		if err == nil {
			err = oneCgroupVersion()
		}
		if err == nil || errors.Is(err, unix.EPERM) { // as a user who is root nowhere: there may be no need
			err = f()
		}
		result <- err
	})
	return <-result
}
