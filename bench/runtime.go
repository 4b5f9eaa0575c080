package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// nothing is the builder that supports nothing, for those that only run containers.
type nothing struct{}

func (nothing) version() string                            { return "" }
func (nothing) start() error                               { return nil }
func (nothing) reset() error                               { return errors.ErrUnsupported }
func (nothing) build(string, string, string) (cost, error) { return cost{}, errors.ErrUnsupported }
func (nothing) base(string, string, string) error          { return errors.ErrUnsupported }
func (nothing) add(string, string) error                   { return errors.ErrUnsupported }
func (nothing) pull(string) (cost, error)                  { return cost{}, errors.ErrUnsupported }
func (nothing) push(string, string) (cost, error)          { return cost{}, errors.ErrUnsupported }
func (nothing) save(string, string) (cost, error)          { return cost{}, errors.ErrUnsupported }
func (nothing) close() error                               { return nil }

// optional tells that a builder is of no use to most workloads, and may be missing.
func (nothing) optional() {}

// ociRuntime is an OCI runtime by itself, on a root that is unpacked and stays: what it does
// podman and docker do besides images, layers and records.
type ociRuntime struct {
	nothing
	program, dir, basis string
	rootless            bool // as an ordinary user
}

func newRuntime(program, stores, basis string) *ociRuntime {
	return &ociRuntime{program: program, dir: filepath.Join(stores, program), basis: basis}
}

func newRootlessRuntime(program, stores, basis string) *ociRuntime {
	return &ociRuntime{program: program, dir: filepath.Join(stores, "rootless-"+program), basis: basis, rootless: true}
}

func (r *ociRuntime) name() string {
	if r.rootless {
		return r.program + " rootless"
	}
	return r.program
}

func (r *ociRuntime) version() string {
	return output("sh", "-c", r.program+` --version | sed -n '1s/.*version //p'`) + ", no image"
}

// start makes the bundle: a root and config.json of the runtime's own making, with the host's network
// as the others have it.
func (r *ociRuntime) start() error {
	if err := os.MkdirAll(r.dir+"/rootfs", 0o755); err != nil {
		return err
	}
	if err := quiet("tar", "-xf", r.basis, "-C", r.dir+"/rootfs"); err != nil {
		return err
	}
	spec := exec.Command(r.program, "spec")
	spec.Dir = r.dir
	if r.rootless {
		if err := giveSomeone(r.dir+"/home", r.dir+"/run", r.dir); err != nil {
			return err
		}
		spec.Args = append(spec.Args, "--rootless")
		if err := asSomeone(spec, r.dir); err != nil {
			return err
		}
	}
	if out, err := spec.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, lastLine(out))
	}
	if err := r.shareNetwork(); err != nil {
		return err
	}
	_, err := r.run("")
	return err
}

// shareNetwork has config.json say what is to be run, and in the network of the host.
func (r *ociRuntime) shareNetwork() error {
	data, err := os.ReadFile(r.dir + "/config.json")
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	process, ok := spec["process"].(map[string]any)
	linux, ok2 := spec["linux"].(map[string]any)
	if !ok || !ok2 {
		return errors.New("config.json has no process and linux")
	}
	process["terminal"], process["args"] = false, []string{"true"}
	var kept []any
	spaces, _ := linux["namespaces"].([]any)
	for _, n := range spaces {
		if m, _ := n.(map[string]any); m["type"] != "network" {
			kept = append(kept, n)
		}
	}
	linux["namespaces"] = kept
	if data, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(r.dir+"/config.json", data, 0o644)
}

func (r *ociRuntime) run(string) (c cost, err error) {
	cmd := exec.Command(r.program, "--root", r.dir+"/state", "run", "-b", r.dir, fmt.Sprintf("bench-%d", os.Getpid()))
	if r.rootless {
		if err := asSomeone(cmd, r.dir); err != nil {
			return c, err
		}
	}
	if aerr := withOneCgroupVersion(func() { c, err = measure(cmd, 0) }); aerr != nil {
		return c, aerr
	}
	return c, err
}

// withOneCgroupVersion calls f on a thread that does not see cgroups of version 2 where there are those of version 1, too: crun refuses
// both together. What f starts sees no more.
func withOneCgroupVersion(f func()) error {
	const second = "/sys/fs/cgroup/unified"
	if _, err := os.Stat(second); err != nil {
		f()
		return nil
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: it ends with this goroutine
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
		}
		if err == nil {
			err = unix.Unmount(second, unix.MNT_DETACH)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	return <-done
}

func (r *ociRuntime) close() error { return os.RemoveAll(r.dir) }
