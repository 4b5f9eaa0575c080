package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// docker is a daemon of our own, away from any the machine may run, and its client. What
// a build costs is the client's cost and the daemon's: the daemon, its containerd and
// what they started are read from /proc before and after.
type docker struct {
	dir, base string
	client    string
	host      string // -H
	daemon    *exec.Cmd
	pulled    []string      // images to be removed by reset
	exited    chan struct{} // closed when the daemon has ended
}

func newDocker(stores, base string) *docker {
	dir := filepath.Join(stores, "docker")
	d := &docker{dir: dir, base: base, client: "docker", host: "unix://" + dir + "/docker.sock"}
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

func (d *docker) name() string { return "docker" }

func (d *docker) version() string {
	return output(d.cmd("version", "--format", "{{.Server.Version}}")...) + ", BuildKit"
}

func (d *docker) start() error {
	if err := os.MkdirAll(d.dir, 0o711); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(d.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	// The daemon reads an empty configuration rather than the machine's.
	config := filepath.Join(d.dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}\n"), 0o644); err != nil {
		return err
	}
	d.daemon = exec.Command("dockerd", "--config-file", config, "--data-root", d.dir+"/data", "--exec-root", d.dir+"/exec",
		"--pidfile", d.dir+"/pid", "-H", d.host, "--storage-driver", "overlay2",
		"--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
	d.daemon.Stdout, d.daemon.Stderr = log, log
	if err := d.daemon.Start(); err != nil {
		return err
	}
	d.exited = make(chan struct{})
	go func() { _ = d.daemon.Wait(); close(d.exited) }()
	for range 300 {
		select {
		case <-d.exited:
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("dockerd ended: %v\n%s", d.daemon.ProcessState, tail(text, 2000))
		case <-time.After(100 * time.Millisecond):
		}
		if quiet(d.cmd("info")...) == nil {
			return d.add(d.base, "busybox")
		}
	}
	return errors.New("dockerd does not answer")
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
	return d.run("build", "--label", "bench", "--network", "host", "-t", tag, "-f", dockerfile, dir)
}

func (d *docker) add(tar, tag string) error {
	return quiet(d.cmd("import", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", tar, tag)...)
}

func (d *docker) pull(ref string) (cost, error) {
	d.pulled = append(d.pulled, ref)
	return d.run("pull", "-q", ref)
}

func (d *docker) push(tag, ref string) (cost, error) {
	if err := quiet(d.cmd("tag", tag, ref)...); err != nil {
		return cost{}, err
	}
	return d.run("push", "-q", ref)
}

func (d *docker) save(tag, file string) (cost, error) { return d.run("save", "-o", file, tag) }

// run measures a command of the client and what the daemon does meanwhile.
func (d *docker) run(args ...string) (cost, error) {
	argv := d.cmd(args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=1")
	pids := tree(d.daemon.Process.Pid)
	for _, pid := range pids {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0) // forget the peak so far
	}
	before := cpuTime(pids)
	c, err := measure(cmd)
	if err != nil {
		return c, err
	}
	pids = tree(d.daemon.Process.Pid)
	c.cpu += cpuTime(pids) - before
	for _, pid := range pids {
		c.rss = max(c.rss, peak(pid))
	}
	return c, nil
}

func (d *docker) close() error {
	if d.daemon == nil || d.daemon.Process == nil {
		return nil
	}
	_ = d.daemon.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
	case <-time.After(30 * time.Second):
		_ = d.daemon.Process.Kill()
		<-d.exited
	}
	_ = syscall.Unmount(d.dir+"/exec/netns/default", 0) // where a container had a network
	return os.RemoveAll(d.dir)
}

// tree is a process and all its descendants.
func tree(pid int) []int {
	pids := []int{pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		data, _ := os.ReadFile(t)
		for _, f := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(f); err == nil {
				pids = append(pids, tree(child)...)
			}
		}
	}
	return pids
}

// cpuTime sums what processes and their ended children used (proc(5), stat, fields 14 to 17).
func cpuTime(pids []int) time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux there is
	var sum time.Duration
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(data), ") ") // the name may hold anything
		fields := strings.Fields(rest)
		if len(fields) < 15 {
			continue
		}
		for _, f := range fields[11:15] {
			n, _ := strconv.ParseInt(f, 10, 64)
			sum += time.Duration(n) * tick
		}
	}
	return sum
}

// peak is the largest resident memory a process has had.
func peak(pid int) int64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}
