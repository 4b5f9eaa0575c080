package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// builder is a program that builds images, with a store of its own. A method that it has
// nothing for returns errors.ErrUnsupported, and it is left out of that workload.
type builder interface {
	name() string
	version() string
	start() error
	// reset forgets all that was built, cache included, and has the base image again.
	reset() error
	// build makes tag of context dir with a Dockerfile and returns what that cost, from
	// the start of the process to its end.
	build(dir, dockerfile, tag string) (cost, error)
	// add makes an image of a root file system, base one of a Dockerfile, to be built from. Unmeasured.
	add(tar, tag string) error
	base(dir, dockerfile, tag string) error
	// pull fetches an image from the hub until it can be run, push sends one there that was
	// built, save writes one as an archive that docker loads.
	pull(ref string) (cost, error)
	push(tag, ref string) (cost, error)
	save(tag, file string) (cost, error)
	// run runs true in a container of an image and removes it.
	run(tag string) (cost, error)
	close() error
}

// pathOf is said of every base image: it has no environment of its own.
const pathOf = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// nacre: one process, no daemon.
type nacre struct{ program, root, basis string }

func newNacre(program, stores, basis string) *nacre {
	return &nacre{program, filepath.Join(stores, "nacre"), basis}
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
	return n.add(n.basis, "busybox")
}

func (n *nacre) cmd(args ...string) *exec.Cmd {
	return exec.Command(n.program, append([]string{"--root", n.root}, args...)...)
}

func (n *nacre) do(args ...string) (cost, error) { return measure(n.cmd(args...), 0) }

func (n *nacre) build(dir, dockerfile, tag string) (cost, error) {
	return n.do("build", "--network", "host", "-t", tag, "-f", dockerfile, dir)
}

func (n *nacre) add(tar, tag string) error {
	return quiet(n.cmd("import", "-c", pathOf, tar, tag).Args...)
}

func (n *nacre) base(dir, dockerfile, tag string) error {
	return quiet(n.cmd("build", "--network", "host", "-t", tag, "-f", dockerfile, dir).Args...)
}

func (n *nacre) pull(ref string) (cost, error) { return n.do("pull", ref) }

func (n *nacre) push(tag, ref string) (cost, error) {
	if err := quiet(n.cmd("tag", tag, ref).Args...); err != nil {
		return cost{}, err
	}
	return n.do("push", ref)
}

func (n *nacre) save(tag, file string) (cost, error) { return n.do("save", "-o", file, tag) }
func (n *nacre) run(tag string) (cost, error) {
	return n.do("run", "--rm", "--network", "host", tag, "true")
}

// privateNetwork is nacre with what `nacre run` does where nobody says anything about the network.
type privateNetwork struct {
	nothing
	nacre *nacre
}

func (p *privateNetwork) name() string    { return "nacre, private network" }
func (p *privateNetwork) version() string { return p.nacre.version() }

// start has nothing to make: nacre's own row has, before.
func (p *privateNetwork) start() error { return nil }

func (p *privateNetwork) run(tag string) (cost, error) { return p.nacre.do("run", "--rm", tag, "true") }
