package sandbox

import (
	"os"
	"path"
	"strings"

	"nacre/internal/rootfs"
)

// Without a mount there is no /proc, and nothing can stand for what it says of processes. What it says of the machine can be
// copied as it is when the program starts: that is where programs look how many processors and how much memory there is.

// procFiles are those that are copied.
var procFiles = [...]string{
	"cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version", "sys/kernel/osrelease", "sys/kernel/ostype", "sys/kernel/pid_max",
}

// treeProc are the copies.
func treeProc() (list []rootfs.Place) {
	for _, name := range procFiles {
		if data, err := os.ReadFile("/proc/" + name); err == nil {
			list = append(list, rootfs.Place{Target: "/proc/" + name, Data: data, Mode: 0o444})
		}
	}
	return list
}

// withGoroot tells Go where it is: its command finds that out by /proc/self/exe, unless it was told. Go is what PATH
// has, or where its own archives say that it is to be unpacked.
func withGoroot(env []string, t *rootfs.WorkTree) []string {
	dirs := []string{}
	for _, e := range env {
		switch name, value, _ := strings.Cut(e, "="); name {
		case "GOROOT":
			return env
		case "PATH":
			dirs = strings.Split(value, ":")
		}
	}
	for _, dir := range append(dirs, "/usr/local/go/bin") {
		if !path.IsAbs(dir) {
			continue
		}
		program, ok := t.Find(path.Join(dir, "go"))
		if !ok {
			continue
		}
		root := path.Dir(path.Dir(program))
		if _, ok := t.Find(path.Join(root, "VERSION")); ok && path.Base(path.Dir(program)) == "bin" {
			return append(env[:len(env):len(env)], "GOROOT="+root)
		}
	}
	return env
}
