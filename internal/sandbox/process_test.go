package sandbox

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestChildProcess: a child by a descriptor alone is as one that package os started.
func TestChildProcess(t *testing.T) {
	for _, c := range []struct {
		name, script string
		signal       syscall.Signal
		want         string
		status       syscall.WaitStatus
	}{
		{"exit", "exit 7", 0, "exit status 7", 7 << 8},
		{"signal", "sleep 100", syscall.SIGTERM, "signal: terminated", syscall.WaitStatus(syscall.SIGTERM)},
		{"kill", "sleep 100", syscall.SIGKILL, "signal: killed", syscall.WaitStatus(syscall.SIGKILL)},
	} {
		for _, own := range []bool{false, true} {
			cmd := exec.Command("sh", "-c", "exec "+c.script)
			if c.signal == 0 {
				cmd.Args[2] = c.script
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			p := startedProcess(cmd.Process)
			if own {
				var err error
				if p, err = clonedProcess(cmd.Process.Pid); err != nil {
					t.Fatal(err)
				}
			}
			var named int
			err := p.WithHandle(func(fd uintptr) { named = int(fd) })
			if err != nil || named < 3 {
				t.Errorf("%s: descriptor %d, %v", c.name, named, err)
			}
			switch c.signal {
			case 0:
			case syscall.SIGKILL:
				err = p.Kill()
			default:
				err = p.Signal(c.signal)
			}
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			end, err := p.Wait()
			if err != nil || end.status != c.status || end.String() != c.want || end.used().MaxRSS == 0 {
				t.Errorf("%s, own %v: %+v %s, %v", c.name, own, end, end, err)
			}
			if err := p.Kill(); !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("%s, own %v: killed after its end: %v", c.name, own, err)
			}
			if err := p.WithHandle(func(uintptr) {}); err == nil {
				t.Errorf("%s, own %v: it has a descriptor after its end", c.name, own)
			}
		}
	}
	if _, err := clonedProcess(1 << 30); err == nil {
		t.Error("a process that cannot be was found")
	}
}

// TestUnmounts: what Run leaves to be unmounted is counted. Overlay file systems with an index take no writable side
// that another has.
func TestUnmounts(t *testing.T) {
	var unmounts sync.WaitGroup
	root := newRoot(t)
	start(t, func(c *Config) { c.Root, c.Unmounts = root, &unmounts }, "touch", "/file").ok(t)
	unmounts.Wait()
	dir := t.TempDir()
	work := filepath.Join(filepath.Dir(root.Work), "other")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	data := "index=on,lowerdir=" + lowerDir + ",upperdir=" + root.Upper + ",workdir=" + work
	if err := unix.Mount("overlay", dir, "overlay", 0, data); err != nil {
		t.Fatalf("its root is mounted still: %v", err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Error(err)
	}
}
