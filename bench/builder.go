package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// builder is a program that builds images, with a store of its own.
type builder interface {
	name() string
	version() string
	start() error
	// reset forgets all that was built, cache included, and has the base image again.
	reset() error
	// build makes tag of context dir with a Dockerfile and returns what that cost, from
	// the start of the process to its end.
	build(dir, dockerfile, tag string) (cost, error)
	// add makes an image of a root file system, unmeasured.
	add(tar, tag string) error
	// pull fetches an image from the hub until it can be run, push sends one there, save
	// writes one as an archive that docker loads.
	pull(ref string) (cost, error)
	push(tag, ref string) (cost, error)
	save(tag, file string) (cost, error)
	close() error
}

// cost of one command: elapsed time, processor time of all its processes, and the
// largest memory of any of them.
type cost struct {
	wall, cpu time.Duration
	rss       int64 // bytes
}

// measure runs a command to its end. The kernel adds to its usage that of the children it waited for.
func measure(cmd *exec.Cmd) (cost, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begin := time.Now()
	err := cmd.Run()
	wall := time.Since(begin)
	if err != nil {
		return cost{}, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(out.Bytes(), 2000))
	}
	s := cmd.ProcessState
	usage := s.SysUsage().(*syscall.Rusage)
	return cost{wall, s.UserTime() + s.SystemTime(), usage.Maxrss << 10}, nil
}

func quiet(argv ...string) error {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, tail(out, 2000))
	}
	return nil
}

func output(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// nacre: one process, no daemon.
type nacre struct{ program, root, base string }

func newNacre(program, stores, base string) *nacre {
	return &nacre{program, filepath.Join(stores, "nacre"), base}
}

func (n *nacre) name() string { return "nacre" }
func (n *nacre) version() string {
	return strings.TrimPrefix(output(n.program, "version", "--format", "{{.Version}}"), "dev")
}

func (n *nacre) start() error { return n.reset() }
func (n *nacre) close() error { return os.RemoveAll(n.root) }

func (n *nacre) reset() error {
	if err := os.RemoveAll(n.root); err != nil {
		return err
	}
	return n.add(n.base, "busybox")
}

func (n *nacre) cmd(args ...string) *exec.Cmd {
	return exec.Command(n.program, append([]string{"--root", n.root}, args...)...)
}

func (n *nacre) build(dir, dockerfile, tag string) (cost, error) {
	return measure(n.cmd("build", "-t", tag, "-f", dockerfile, dir))
}

func (n *nacre) add(tar, tag string) error {
	return quiet(n.program, "--root", n.root, "import", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", tar, tag)
}

func (n *nacre) pull(ref string) (cost, error) { return measure(n.cmd("pull", ref)) }

func (n *nacre) push(tag, ref string) (cost, error) {
	if err := quiet(n.program, "--root", n.root, "tag", tag, ref); err != nil {
		return cost{}, err
	}
	return measure(n.cmd("push", ref))
}

func (n *nacre) save(tag, file string) (cost, error) { return measure(n.cmd("save", "-o", file, tag)) }

// containers is buildah or podman: one process each time, and an OCI runtime for RUN.
type containers struct {
	program, dir, base string
	global             []string
}

func newContainers(program, stores, base string) *containers {
	dir := filepath.Join(stores, program)
	c := &containers{program: program, dir: dir, base: base}
	// podman takes no longer path for it than 50 characters.
	runroot := fmt.Sprintf("/run/bench-%s-%d", program, os.Getpid())
	c.global = []string{program, "--root", dir + "/root", "--runroot", runroot, "--storage-driver", "overlay"}
	if program == "podman" {
		c.global = append(c.global, "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--tmpdir", dir+"/tmp")
	}
	return c
}

func (c *containers) cmd(args ...string) []string {
	return append(c.global[:len(c.global):len(c.global)], args...)
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
	return c.add(c.base, "busybox")
}

func (c *containers) add(tar, tag string) error {
	if c.program == "podman" {
		return quiet(c.cmd("import", "-q", "--change", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", tar, tag)...)
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(c.dir, "Dockerfile")
	if err := os.WriteFile(file, []byte("FROM scratch\nADD "+filepath.Base(tar)+" /\nENV PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"), 0o644); err != nil {
		return err
	}
	return quiet(c.cmd("bud", "-q", "-t", tag, "-f", file, filepath.Dir(tar))...)
}

func (c *containers) run(args ...string) (cost, error) {
	argv := c.cmd(args...)
	return measure(exec.Command(argv[0], argv[1:]...))
}

func (c *containers) pull(ref string) (cost, error) {
	return c.run("pull", "-q", "--tls-verify=false", ref)
}

func (c *containers) push(tag, ref string) (cost, error) {
	return c.run("push", "-q", "--tls-verify=false", tag, "docker://"+ref)
}

func (c *containers) save(tag, file string) (cost, error) {
	return c.run("push", "-q", tag, "docker-archive:"+file+":"+tag)
}

func (c *containers) build(dir, dockerfile, tag string) (cost, error) {
	// crun refuses machines that have both versions of cgroups; runc does not.
	argv := c.cmd("build", "--runtime", "runc", "--layers", "--network", "host", "-t", tag, "-f", dockerfile, dir)
	if c.program == "podman" { // there the runtime is a global flag
		argv = c.cmd("--runtime", "runc", "build", "--layers", "--network", "host", "-t", tag, "-f", dockerfile, dir)
	}
	return measure(exec.Command(argv[0], argv[1:]...))
}

// close unmounts what an overlay store keeps mounted, and removes it.
func (c *containers) close() error {
	_ = syscall.Unmount(c.dir+"/root/overlay", syscall.MNT_DETACH) // where it is mounted
	return errors.Join(os.RemoveAll(c.global[4]), os.RemoveAll(c.dir))
}
