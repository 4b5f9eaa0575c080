package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// someone is the ordinary user that runs what needs no root: one who has subordinate ids.
var someone = sync.OnceValues(func() (syscall.Credential, error) {
	if err := quiet("scripts/setup", "users"); err != nil {
		return syscall.Credential{}, err
	}
	u, err := user.Lookup("nacre-test")
	if err != nil {
		return syscall.Credential{}, err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
})

// asSomeone has a command run by the ordinary user, in a directory of theirs.
func asSomeone(cmd *exec.Cmd, dir string, env ...string) error {
	who, err := someone()
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: &who}
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir + "/home", "XDG_RUNTIME_DIR=" + dir + "/run"}, env...)
	return err
}

// giveSomeone makes directories and gives all in them to the ordinary user.
func giveSomeone(dirs ...string) error {
	who, err := someone()
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
		if err := quiet("chown", "-R", fmt.Sprintf("%d:%d", who.Uid, who.Gid), d); err != nil {
			return err
		}
	}
	return nil
}

// rootless runs containers as an ordinary user: nacre or podman.
type rootless struct {
	nothing
	label, dir string
	temp       string   // podman takes no longer path for its runroot than 50 characters
	argv, load []string // the program with its global flags; loading a tar, to which tar and tag are added
	basis      string
}

func newRootless(program, path, stores, basis string) *rootless {
	dir := filepath.Join(stores, "rootless-"+program)
	r := &rootless{label: program, dir: dir, basis: basis}
	if program == "podman" {
		r.temp = fmt.Sprintf("/run/bench-rootless-%d", os.Getpid())
		r.argv = []string{path, "--root", dir + "/root", "--runroot", r.temp + "/run", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", "runc"}
		r.load = []string{"import", "-q", "--change", pathOf}
	} else {
		r.argv = []string{path, "--root", dir + "/root"}
		r.load = []string{"import", "-c", pathOf}
	}
	return r
}

func (r *rootless) name() string { return r.label + " rootless" }

// start has the base image in a store of the user's, and tries once.
func (r *rootless) start() error {
	dirs := []string{r.dir + "/home", r.dir + "/run", r.dir}
	if r.temp != "" {
		dirs = append(dirs, r.temp)
	}
	if err := giveSomeone(dirs...); err != nil {
		return err
	}
	// The user sees neither this checkout nor where it was built.
	own := r.dir + "/base.tar"
	if err := quiet("cp", r.basis, own); err != nil {
		return err
	}
	if r.label == "nacre" {
		if err := quiet("cp", r.argv[0], r.dir+"/nacre"); err != nil {
			return err
		}
		r.argv[0] = r.dir + "/nacre"
	}
	if err := giveSomeone(r.dir); err != nil {
		return err
	}
	cmd := r.cmd(append(r.load, own, "busybox")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, lastLine(out))
	}
	if out, err := r.cmd(r.runArgs("busybox")...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, lastLine(out))
	}
	return nil
}

func lastLine(b []byte) []byte {
	b = bytes.TrimSpace(b)
	return b[bytes.LastIndexByte(b, '\n')+1:]
}

func (r *rootless) cmd(args ...string) *exec.Cmd {
	cmd := exec.Command(r.argv[0], append(r.argv[1:len(r.argv):len(r.argv)], args...)...)
	_ = asSomeone(cmd, r.dir) // start has asked who that is
	return cmd
}

func (r *rootless) runArgs(tag string) []string {
	if r.label == "podman" {
		return podmanRun(tag)
	}
	return []string{"run", "--rm", "--network", "host", tag, "true"}
}

func (r *rootless) run(tag string) (cost, error) {
	return measure(r.cmd(r.runArgs(tag)...), 0)
}

// close removes what the user could not: files of other ids.
func (r *rootless) close() error {
	if r.temp == "" {
		return os.RemoveAll(r.dir)
	}
	// The process that holds podman's user namespace, and with it the mounts there are.
	pause, _ := filepath.Glob(r.dir + "/run/libpod/tmp/pause.pid")
	for _, file := range pause {
		data, err := os.ReadFile(file)
		if pid, errPid := strconv.Atoi(string(bytes.TrimSpace(data))); err == nil && errPid == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = syscall.Unmount(r.dir+"/root/overlay", syscall.MNT_DETACH) // where it is mounted
	return errors.Join(os.RemoveAll(r.temp), os.RemoveAll(r.dir))
}
