package rootfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// newUserns is a user namespace whose root is uid outside.
func newUserns(t *testing.T, uid int) int {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	fd, err := openPath(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid), unix.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// TestMappedWays: each way of making a root with mapped ids shows the same files with the same owners, and takes what is written.
func TestMappedWays(t *testing.T) {
	const uid = 1_900_000_000
	userns := newUserns(t, uid)
	for name, way := range map[string]func(Mount, int, Owner) (int, error){
		"detached": Mount.mappedDetached, "placed": Mount.mappedPlaced, "legacy": Mount.mappedLegacy,
	} {
		eachForm(t, func(t *testing.T, form Form, s *source) {
			ids := awkward(s)
			for _, readonly := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s readonly=%v", name, readonly), func(t *testing.T) {
					m := s.prepare(form, readonly, ids...)
					fds := count(t, "/proc/self/fd")
					mount, err := way(m, userns, Owner{UID: uid, GID: uid})
					if err != nil {
						t.Fatal(err)
					}
					root := t.TempDir()
					err = apart(func() error {
						if err := moveTo(mount, root); err != nil {
							return err
						}
						checkMapped(t, root, m.Upper, uid)
						return nil
					})
					unix.Close(mount)
					if err != nil {
						t.Fatal(err)
					}
					if now := count(t, "/proc/self/fd"); now != fds {
						t.Errorf("%d descriptors open, were %d", now, fds)
					}
				})
			}
		})
	}
}

func checkMapped(t *testing.T, root, upper string, uid int) {
	owner := func(name string) uint32 {
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			t.Error(err)
		}
		return st.Uid
	}
	for name, want := range map[string]int{"etc/passwd": uid, "secret": uid + 5} {
		if got := owner(filepath.Join(root, name)); got != uint32(want) {
			t.Errorf("%s belongs to %d, want %d", name, got, want)
		}
	}
	if data, err := os.ReadFile(filepath.Join(root, "etc/dir/in")); string(data) != "2" {
		t.Errorf("etc/dir/in: %q, %v", data, err)
	}
	err := asOwner(Owner{UID: uid, GID: uid}, func() error { return os.WriteFile(filepath.Join(root, "etc/written"), nil, 0o644) })
	if upper == "" {
		if err == nil {
			t.Error("a read-only root was written to")
		}
		return
	}
	if err != nil {
		t.Error(err)
	}
	if got := owner(filepath.Join(upper, "etc/written")); got != 0 {
		t.Errorf("on disk it belongs to %d", got)
	}
}
