package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// docker is a daemon of our own, away from any the machine may run, and its client. What
// a build costs is the client's cost and the daemon's: the daemon's is that of its containerd and
// what they started, too.
type docker struct {
	dir, basis string
	client     string
	host       string // -H
	daemon     *daemon
	pulled     []string // images to be removed by reset
}

func newDocker(stores, basis string) *docker {
	dir := filepath.Join(stores, "docker")
	d := &docker{dir: dir, basis: basis, client: "docker", host: "unix://" + dir + "/docker.sock"}
	// Debian's client has BuildKit built in; others that may stand before it in the path
	// want a plugin.
	if _, err := os.Stat("/usr/bin/docker"); err == nil {
		d.client = "/usr/bin/docker"
	}
	return d
}

// cmd is a command line of the client, talking to our daemon.
func (d *docker) cmd(args ...string) []string {
	return append([]string{d.client, "-H", d.host}, args...)
}

func (d *docker) do(args ...string) (cost, error) {
	argv := d.cmd(args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=1")
	return measure(cmd, d.daemon.pid())
}

func (d *docker) name() string { return "docker" }

func (d *docker) version() string {
	return output(d.cmd("version", "--format", "{{.Server.Version}}")...) + ", BuildKit"
}

func (d *docker) start() error {
	if err := os.MkdirAll(d.dir, 0o711); err != nil {
		return err
	}
	// The daemon reads an empty configuration rather than the machine's.
	config := filepath.Join(d.dir, "daemon.json")
	err := os.WriteFile(config, []byte("{}\n"), 0o644)
	if err != nil {
		return err
	}
	answers := func() bool { return quiet(d.cmd("info")...) == nil }
	d.daemon, err = startDaemon(filepath.Join(d.dir, "log"), answers,
		"dockerd", "--config-file", config, "--data-root", d.dir+"/data", "--exec-root", d.dir+"/exec",
		"--pidfile", d.dir+"/pid", "-H", d.host, "--storage-driver", "overlay2",
		"--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
	if err != nil {
		return err
	}
	return d.add(d.basis, "busybox")
}

func (d *docker) reset() error {
	ids := strings.Fields(output(d.cmd("images", "-aq", "--filter", "label=bench")...))
	ids = append(ids, d.pulled...)
	d.pulled = nil
	if len(ids) > 0 {
		if err := quiet(append(d.cmd("rmi", "-f"), ids...)...); err != nil {
			return err
		}
	}
	return quiet(d.cmd("builder", "prune", "-af")...)
}

func (d *docker) build(dir, dockerfile, tag string) (cost, error) {
	return d.do("build", "--label", "bench", "--network", "host", "-t", tag, "-f", dockerfile, dir)
}

func (d *docker) base(dir, dockerfile, tag string) error {
	_, err := d.build(dir, dockerfile, tag)
	return err
}

// add leaves alone what reset does not remove.
func (d *docker) add(tar, tag string) error {
	if output(d.cmd("images", "-q", tag)...) != "" {
		return nil
	}
	return quiet(d.cmd("import", "-c", pathOf, tar, tag)...)
}

func (d *docker) pull(ref string) (cost, error) {
	d.pulled = append(d.pulled, ref)
	return d.do("pull", "-q", ref)
}

func (d *docker) push(tag, ref string) (cost, error) {
	if err := quiet(d.cmd("tag", tag, ref)...); err != nil {
		return cost{}, err
	}
	return d.do("push", "-q", ref)
}

func (d *docker) save(tag, file string) (cost, error) { return d.do("save", "-o", file, tag) }

func (d *docker) run(tag string) (cost, error) {
	return d.do("run", "--rm", "--network", "host", "--log-driver", "none", tag, "true")
}

func (d *docker) close() error {
	d.daemon.stop()
	_ = syscall.Unmount(d.dir+"/exec/netns/default", 0) // where a container had a network
	return os.RemoveAll(d.dir)
}
