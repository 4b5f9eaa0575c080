package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// containers is buildah or podman: one process each time, and an OCI runtime for RUN.
type containers struct {
	program, dir, basis string
	global              []string
}

func newContainers(program, stores, basis string) *containers {
	dir := filepath.Join(stores, program)
	c := &containers{program: program, dir: dir, basis: basis}
	// podman takes no longer path for it than 50 characters.
	runroot := fmt.Sprintf("/run/bench-%s-%d", program, os.Getpid())
	c.global = []string{program, "--root", dir + "/root", "--runroot", runroot, "--storage-driver", "overlay"}
	if program == "podman" {
		// crun refuses machines that have both versions of cgroups; runc does not.
		c.global = append(c.global, "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--tmpdir", dir+"/tmp", "--runtime", "runc")
	}
	return c
}

func (c *containers) cmd(args ...string) []string {
	return append(c.global[:len(c.global):len(c.global)], args...)
}

func (c *containers) do(args ...string) (cost, error) {
	argv := c.cmd(args...)
	return measure(exec.Command(argv[0], argv[1:]...), 0)
}

func (c *containers) name() string { return c.program }
func (c *containers) start() error { return c.reset() }

func (c *containers) version() string {
	return strings.Fields(output(c.program, "--version") + " ? ? ?")[2]
}

func (c *containers) reset() error {
	if err := c.close(); err != nil {
		return err
	}
	return c.add(c.basis, "busybox")
}

func (c *containers) add(tar, tag string) error {
	if c.program == "podman" {
		return quiet(c.cmd("import", "-q", "--change", pathOf, tar, tag)...)
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(c.dir, "Dockerfile")
	if err := os.WriteFile(file, []byte("FROM scratch\nADD "+filepath.Base(tar)+" /\n"+pathOf+"\n"), 0o644); err != nil {
		return err
	}
	return quiet(c.cmd("bud", "-q", "-t", tag, "-f", file, filepath.Dir(tar))...)
}

func (c *containers) buildArgs(dir, dockerfile, tag string) []string {
	args := []string{"build", "--layers", "--network", "host", "-t", tag, "-f", dockerfile, dir}
	if c.program == "buildah" {
		args = append(args[:1:1], append([]string{"--runtime", "runc"}, args[1:]...)...)
	}
	return args
}

func (c *containers) build(dir, dockerfile, tag string) (cost, error) {
	return c.do(c.buildArgs(dir, dockerfile, tag)...)
}

func (c *containers) base(dir, dockerfile, tag string) error {
	return quiet(c.cmd(c.buildArgs(dir, dockerfile, tag)...)...)
}

func (c *containers) pull(ref string) (cost, error) {
	return c.do("pull", "-q", "--tls-verify=false", ref)
}

func (c *containers) push(tag, ref string) (cost, error) {
	return c.do("push", "-q", "--tls-verify=false", tag, "docker://"+ref)
}

func (c *containers) save(tag, file string) (cost, error) {
	return c.do("push", "-q", tag, "docker-archive:"+file+":"+tag)
}

// run shares the host's network: what a private one takes is another question. It asks for no more
// open files and processes than there may be, which not every machine lets one raise.
func (c *containers) run(tag string) (cost, error) {
	if c.program == "buildah" {
		return cost{}, errors.ErrUnsupported
	}
	return c.do(podmanRun(tag)...)
}

func podmanRun(tag string) []string {
	return []string{"run", "--rm", "--network", "host", "--log-driver", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", tag, "true"}
}

// close unmounts what an overlay store keeps mounted, and removes it.
func (c *containers) close() error {
	_ = syscall.Unmount(c.dir+"/root/overlay", syscall.MNT_DETACH) // where it is mounted
	return errors.Join(os.RemoveAll(c.global[4]), os.RemoveAll(c.dir))
}
