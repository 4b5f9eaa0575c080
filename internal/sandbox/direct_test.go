package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestProgramStaysOurs has images try to execute this program as it lies on the host, which the
// process is until it executes its own.
func TestProgramStaysOurs(t *testing.T) {
	volume := t.TempDir()
	if err := os.Symlink("/proc/self/exe", filepath.Join(volume, "exe")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		make func(bin string) error // puts something into the root
		args []string
	}{
		{"by name", func(string) error { return nil }, []string{"/proc/self/exe", "self"}},
		{"link", func(bin string) error { return os.Symlink("/proc/self/exe", bin+"/x") }, []string{"x", "self"}},
		{"link to a link", func(bin string) error {
			return os.Symlink("../volume/exe", bin+"/x")
		}, []string{"/bin/x", "self"}},
		{"link to a directory", func(bin string) error { return os.Symlink("/proc/self", bin+"/self") }, []string{"/bin/self/exe", "self"}},
		{"volume", func(string) error { return nil }, []string{"/volume/exe", "self"}},
		{"script", func(bin string) error {
			return os.WriteFile(bin+"/x", []byte("#!/proc/self/exe self\n"), 0o755)
		}, []string{"x"}},
		{"script of a script", func(bin string) error {
			if err := os.WriteFile(bin+"/y", []byte("#!/proc/self/exe self\n"), 0o755); err != nil {
				return err
			}
			return os.WriteFile(bin+"/x", []byte("#!/bin/y\n"), 0o755)
		}, []string{"x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := newRoot(t)
			bin := filepath.Join(root.Upper, "bin")
			if err := os.Mkdir(bin, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := c.make(bin); err != nil {
				t.Fatal(err)
			}
			out := start(t, func(config *Config) {
				config.Root = root
				config.Spec.Process.Env = []string{"PATH=/bin"}
				config.Spec.Mounts = append(config.Spec.Mounts, specs.Mount{Destination: "/volume", Type: "bind", Source: volume})
			}, c.args...)
			// It is a copy's program, or none that is executable.
			if out.err == nil && out.out != "read-only: true <nil>\n" {
				t.Errorf("our own program in the sandbox: %s%s", out.out, out.errs)
			}
			if out.err != nil && out.Code != 0 {
				t.Error(out.err)
			}
		})
	}
}

// TestPlainProgram tells programs that may be executed at once from others.
func TestPlainProgram(t *testing.T) {
	dir := t.TempDir()
	self, err := os.ReadFile(filepath.Join(lowerDir, "bin/busybox"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"static": string(self), "static.bin": string(self), "loader": string(self), "short": "\x7fELF", "text": "echo hello\n", "empty": "",
		"script": "#! /static -x\n", "deep": "#!/script\n", "relative": "#!static\n", "endless": "#!/endless\n",
		"dotted": "#!/static.bin\n", "unended": "#!/static", "loaded": withLoader("/loader"), "unloaded": withLoader("/absent"),
		"magic": withLoader("/proc/self/exe"), "other": strings.Replace(withLoader("/loader"), "\x3e\x00", "\xb7\x00", 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"link": "/static", "up": "../../static", "out": "/proc/self/exe"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	c := child{root: root}
	if err := c.plainProgram("/absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	plain := []string{"static", "loader", "script", "deep", "loaded", "link", "up"}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := c.plainProgram("/" + e.Name()); (err == nil) != (haveCalls && slices.Contains(plain, e.Name())) {
			t.Errorf("%s: %v", e.Name(), err)
		}
	}
}

// withLoader is a program that asks for a loader.
func withLoader(loader string) string {
	b := make([]byte, 64+56)
	copy(b, "\x7fELF\x02\x01\x01")
	order := binary.LittleEndian
	order.PutUint16(b[16:], 2)
	order.PutUint16(b[18:], elfMachine)
	order.PutUint64(b[32:], 64)
	order.PutUint16(b[54:], 56)
	order.PutUint16(b[56:], 1)
	order.PutUint32(b[64:], interpreterHeader)
	order.PutUint64(b[72:], uint64(len(b)))
	order.PutUint64(b[96:], uint64(len(loader)+1))
	return string(b) + loader + "\x00"
}

// TestThreadsComeHome looks for threads of ours that stayed in namespaces of a sandbox.
func TestThreadsComeHome(t *testing.T) {
	for range 5 {
		start(t, nil, "true").ok(t)
		start(t, func(c *Config) { c.Spec.Linux.Sysctl = map[string]string{"net.nothing": "1"} }, "true")
		start(t, nil, "nothere")
	}
	for _, ns := range []string{"mnt", "uts", "ipc", "net", "cgroup", "pid_for_children"} {
		own, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		all, err := filepath.Glob("/proc/self/task/*/ns/" + ns)
		if err != nil || len(all) == 0 {
			t.Fatal(all, err)
		}
		for _, other := range all {
			if got, err := os.Readlink(other); err == nil && got != own {
				t.Errorf("%s: %s, not %s", other, got, own)
			}
		}
	}
}

// TestKilledWhileStarting kills us at any moment of a start. Nothing is left running.
func TestKilledWhileStarting(t *testing.T) {
	word := fmt.Sprint(1_000_000 + os.Getpid()) // in the arguments of all that is started here
	for i := range 40 {
		dir := t.TempDir()
		if err := os.Symlink(lowerDir, filepath.Join(dir, "lower")); err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{"upper", "work"} {
			if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Cmd{Path: "/proc/self/exe", Args: []string{"victim", dir, "none", "sleep", word}}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 400 * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			left := processes(t, word)
			if len(left) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("killed after %d of 40: left: %v", i, left)
			}
		}
	}
}
