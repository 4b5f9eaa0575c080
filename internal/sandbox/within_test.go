package sandbox

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A path within a directory never leads out of it, whatever symlinks are there.
func TestMountWithin(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "dir")
	for _, d := range []string{dir + "/sub/deep", dir + "/etc", top + "/secret"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"secret/file": "outside", "dir/sub/file": "inside", "dir/etc/passwd": "also inside", "dir/one": "a file"} {
		if err := os.WriteFile(filepath.Join(top, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"out": "../secret", "abs": top + "/secret", "etclink": "/etc", "in": "sub", "root": "/proc/self/root", "up": "../../../../../../..",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(dir, filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ dir, path, script, want string }{
		{dir, "", "cat /m/sub/file", "inside"},
		{dir, "sub", "cat /m/file", "inside"},
		{dir, "in", "cat /m/file", "inside"},
		{dir, "etclink", "cat /m/passwd", "also inside"}, // the directory is the root its links begin at
		{dir, "up", "cat /m/one", "a file"},
		{dir, "one", "cat /m", "a file"},
		{dir, "out", "", "no such file"},
		{dir, "abs", "", "no such file"},
		{dir, "root", "", "no such file"},
		{dir, "nothing", "", "no such file"},
		{filepath.Join(top, "link"), "sub", "", "not a directory"},
	} {
		r := start(t, func(cfg *Config) {
			cfg.Spec.Mounts = append(cfg.Spec.Mounts, MountWithin("/m", c.dir, c.path, "rbind", "ro"))
		}, "sh", "-c", c.script)
		if c.script == "" {
			if r.err == nil || !strings.Contains(r.err.Error(), c.want) {
				t.Errorf("%s: error %v, want %q", c.path, r.err, c.want)
			}
		} else if got := r.ok(t); got != c.want {
			t.Errorf("%s: got %q, want %q", c.path, got, c.want)
		}
	}
}

// A symlink that comes and goes while it is being mounted gives what is inside, or nothing.
func TestMountWithinRace(t *testing.T) {
	top := t.TempDir()
	for _, d := range []string{"dir/a", "outside"} {
		if err := os.MkdirAll(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(top, "dir/a/file"), []byte("inside"), 0o644)
	os.WriteFile(filepath.Join(top, "outside/file"), []byte("outside"), 0o644)
	if err := os.Symlink(filepath.Join(top, "outside"), filepath.Join(top, "dir/b")); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, top+"/dir/a", unix.AT_FDCWD, top+"/dir/b", unix.RENAME_EXCHANGE)
			}
		}
	}()
	seen := map[string]int{}
	for range 60 {
		r := start(t, func(cfg *Config) {
			cfg.Spec.Mounts = append(cfg.Spec.Mounts, MountWithin("/m", top+"/dir", "a", "rbind"))
		}, "cat", "/m/file")
		if r.err != nil {
			seen["refused"]++
			continue
		}
		seen[r.out]++
	}
	close(stop)
	<-done
	if seen["outside"] > 0 || seen["inside"] == 0 {
		t.Errorf("saw %v", seen)
	}
}

// What is mounted below a shared source comes through as asked, and only so.
func TestPropagation(t *testing.T) {
	src := t.TempDir()
	if err := unix.Mount("t", src, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(src, unix.MNT_DETACH)
	for _, d := range []string{"late", "below"} {
		if err := os.Mkdir(filepath.Join(src, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bind := func(options ...string) specs.Mount {
		return specs.Mount{Destination: "/m", Type: "bind", Source: src, Options: append([]string{"rbind"}, options...)}
	}
	if err := unix.Mount("", src, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	for _, o := range []string{"rshared", "rslave", "shared", "slave"} {
		r := start(t, func(c *Config) { c.Spec.Mounts = append(c.Spec.Mounts, bind(o)) }, "true")
		if r.err == nil || !strings.Contains(r.err.Error(), src+", which is not a shared") {
			t.Errorf("%s of a private mount: %v", o, r.err)
		}
	}
	if err := unix.Mount("", src, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ option, tag string }{{"rshared", "shared:"}, {"rslave", "master:"}, {"rprivate", ""}, {"shared", "shared:"}, {"slave", "master:"}, {"private", ""}} {
		pr, pw, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		// The program says when it runs; then something is mounted on the host.
		r := start(t, func(cfg *Config) {
			cfg.Spec.Mounts = append(cfg.Spec.Mounts, bind(c.option))
			cfg.Stdin = struct{ io.Reader }{pr} // a pipe of ours does not block, which it would see if it were given it
			var out strings.Builder
			inner := cfg.Stdout
			cfg.Stdout = writerFunc(func(p []byte) (int, error) {
				out.Write(p)
				if strings.Contains(out.String(), "running") && pw != nil {
					if err := unix.Mount("late", src+"/late", "tmpfs", 0, "size=4k"); err != nil {
						t.Error(err)
					}
					pw.Close()
					pw = nil
				}
				return inner.Write(p)
			})
		}, "sh", "-c", `echo running; cat >/dev/null; grep -c " /m/late " /proc/self/mountinfo; grep " /m " /proc/self/mountinfo`)
		unix.Unmount(src+"/late", unix.MNT_DETACH)
		pr.Close()
		lines := strings.SplitN(r.out, "\n", 3)
		if len(lines) < 3 || !strings.Contains(lines[2], c.tag) || c.tag == "" && (strings.Contains(lines[2], "shared:") || strings.Contains(lines[2], "master:")) {
			t.Fatalf("%s: %q %v", c.option, r.out, r.err)
		}
		if want := fmt.Sprint(min(1, len(c.tag))); lines[1] != want {
			t.Errorf("%s: %s mounts came through, want %s\n%s%s", c.option, lines[1], want, r.out, r.errs)
		}
	}
}

// What is bound may be anything that has a name: it is put on an empty file.
func TestBindSpecial(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(dir, "zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	bind := func(name string) specs.Mount {
		return specs.Mount{Destination: "/run/" + name, Type: "bind", Source: filepath.Join(dir, name), Options: []string{"rbind"}}
	}
	r := start(t, func(c *Config) {
		c.Spec.Mounts = append(c.Spec.Mounts, bind("socket"), bind("pipe"), bind("zero"))
	}, "sh", "-c", "test -S /run/socket && test -p /run/pipe && test -c /run/zero && head -c 3 /run/zero | wc -c")
	if out := r.ok(t); out != "3\n" {
		t.Errorf("got %q", out)
	}
	// Within a directory no device works.
	r = start(t, func(c *Config) {
		c.Spec.Mounts = append(c.Spec.Mounts, MountWithin("/run/zero", dir, "zero", "rbind"))
	}, "sh", "-c", "head -c 3 /run/zero")
	if r.Code == 0 || !strings.Contains(r.errs, "Permission denied") {
		t.Errorf("%+v %s", r.Status, r.errs)
	}
}
