package container

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFreezer stops a process and lets it go on, by a cgroup of each version that this machine has.
func TestFreezer(t *testing.T) {
	tops := map[string]*freezer{}
	if _, err := os.Stat(filepath.Join(cgroupRoot, "freezer", "cgroup.procs")); err == nil {
		tops["version 1"] = &freezer{dir: filepath.Join(cgroupRoot, "freezer", "nacre-test-"+strconv.Itoa(os.Getpid())), own: true}
	}
	for _, top := range []string{cgroupRoot, filepath.Join(cgroupRoot, "unified")} {
		var fs unix.Statfs_t
		if unix.Statfs(top, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			tops["version 2"] = &freezer{dir: filepath.Join(top, "nacre-test-"+strconv.Itoa(os.Getpid())), own: true}
		}
	}
	if len(tops) == 0 {
		t.Fatal("this machine has no cgroups")
	}
	for name, f := range tops {
		t.Run(name, func(t *testing.T) {
			if err := f.make(); err != nil {
				t.Fatal(err)
			}
			defer f.remove()
			out := filepath.Join(t.TempDir(), "out")
			cmd := exec.Command("sh", "-c", `while :; do echo x >>"$0"; sleep 0.01; done`, out)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			if err := os.WriteFile(filepath.Join(f.dir, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
				t.Fatal(err)
			}
			// What it had started before is not in the cgroup: a line more may come of each of those.
			size := func() int64 {
				info, err := os.Stat(out)
				if err != nil {
					return 0
				}
				return info.Size()
			}
			grows := func(from int64) bool {
				for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
					if size() > from+4 {
						return true
					}
				}
				return false
			}
			if !grows(size()) {
				t.Fatal("it does nothing")
			}
			if err := f.set(true); err != nil {
				t.Fatal(err)
			}
			stopped := size()
			time.Sleep(100 * time.Millisecond) // it would have written some lines
			if now := size(); now > stopped+4 {
				t.Errorf("it goes on, from %d to %d bytes", stopped, now)
			}
			if err := f.set(false); err != nil {
				t.Fatal(err)
			}
			if !grows(stopped) {
				t.Error("it does not go on")
			}
			cmd.Process.Kill()
			cmd.Wait()
			f.remove()
			if _, err := os.Stat(f.dir); err == nil {
				t.Errorf("%s is left", f.dir)
			}
		})
	}
}

func TestFreezerFails(t *testing.T) {
	f := &freezer{dir: filepath.Join(t.TempDir(), "gone"), own: true}
	if err := f.set(true); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v", err)
	}
}
