package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestBinds(t *testing.T) {
	src := t.TempDir()
	sub := filepath.Join(src, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "file"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("t", sub, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(sub, unix.MNT_DETACH)
	if err := os.WriteFile(filepath.Join(sub, "below"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, script, want string
		m                  specs.Mount
	}{
		{"rw", "cat /m/file; ls /m/sub; echo x > /m/new && cat /m/new", "from the host\nx\n",
			specs.Mount{Destination: "/m", Type: "bind", Source: src, Options: []string{"bind"}}},
		{"recursive", "ls /m/sub", "below\n",
			specs.Mount{Destination: "/m", Type: "bind", Source: src, Options: []string{"rbind"}}},
		{"ro", "(echo x > /m/ro) 2>&1 | grep -o 'Read-only.*'; echo x > /m/sub/ro && echo below is not", "Read-only file system\nbelow is not\n",
			specs.Mount{Destination: "/m", Type: "bind", Source: src, Options: []string{"rbind", "ro"}}},
		{"rro", "(echo x > /m/sub/ro2) 2>&1 | grep -o 'Read-only.*'", "Read-only file system\n",
			specs.Mount{Destination: "/m", Type: "bind", Source: src, Options: []string{"rbind", "rro"}}},
		{"a file", "cat /a/b/c", "from the host\n",
			specs.Mount{Destination: "/a/b/c", Type: "bind", Source: filepath.Join(src, "file"), Options: []string{"bind", "ro"}}},
		{"noexec", "cp /bin/busybox /m/true; /m/true 2>&1 | grep -o 'Permission denied'", "Permission denied\n",
			specs.Mount{Destination: "/m", Type: "bind", Source: src, Options: []string{"bind", "noexec"}}},
		{"tmpfs", "grep ' /m ' /proc/mounts", "mine /m tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k,mode=700,uid=7 0 0\n",
			specs.Mount{Destination: "/m", Type: "tmpfs", Source: "mine", Options: []string{"nosuid", "noexec", "size=1m", "mode=700", "uid=7"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lower := t.TempDir() // cp is not among the usual links
			if err := os.MkdirAll(filepath.Join(lower, "bin"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("busybox", filepath.Join(lower, "bin/cp")); err != nil {
				t.Fatal(err)
			}
			r := start(t, func(cfg *Config) {
				cfg.Spec.Mounts = append(cfg.Spec.Mounts, c.m)
				cfg.Root = newRoot(t)
				cfg.Root.Lower = append(cfg.Root.Lower, rootfs.Lower{Dir: lower})
			}, "sh", "-c", c.script)
			if got := r.ok(t); got != c.want {
				t.Errorf("got %q, want %q\n%s", got, c.want, r.errs)
			}
		})
	}
}

// An image's symlinks lead mounts around in the root, and never out of it.
func TestMountsStayInside(t *testing.T) {
	outside := t.TempDir()
	root := newRoot(t)
	for name, target := range map[string]string{
		"etc-link":  "/etc",
		"up":        "../../../../../../" + outside,
		"abs":       outside,
		"dangling":  "/new/place/file",
		"procdir":   "/proc/1/root" + outside,
		"resolv":    "../run/systemd/stub-resolv.conf",
		"loop":      "loop",
		"proc-self": "/proc/self/fd/4",
	} {
		if err := os.Symlink(target, filepath.Join(root.Upper, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mknod(filepath.Join(root.Upper, "deleted"), unix.S_IFCHR, 0); err != nil { // overlay's whiteout
		t.Fatal(err)
	}
	file := func(path string) Config {
		return Config{Files: []File{{Path: path, Data: []byte("injected\n")}}}
	}
	for _, c := range []struct {
		path, at    string
		made, fails bool
	}{
		{"/etc-link/hosts", "etc/hosts", true, false},
		{"/etc-link/../x", "x", false, false},
		{"/up/evil", strings.TrimPrefix(outside, "/") + "/evil", true, false},
		{"/abs/evil2", strings.TrimPrefix(outside, "/") + "/evil2", true, false},
		{"/dangling", "new/place/file", true, false},
		{"/resolv", "run/systemd/stub-resolv.conf", true, false},
		{"/procdir/evil3", "", false, true},
		{"/proc-self", "", false, true},
		{"/loop", "", false, true},
		{"/bin/busybox/x", "", false, true},
		{"/tmp/./a//b/", "tmp/a/b", false, false},
		{"/../../../tmp/c", "tmp/c", false, false},
		{"/deleted", "deleted", true, false},
	} {
		r := start(t, func(cfg *Config) {
			cfg.Files, cfg.Root = file(c.path).Files, root
		}, "cat", "/"+c.at)
		if c.fails {
			if r.err == nil {
				t.Errorf("%s: no error, made %q", c.path, r.Created)
			}
			continue
		}
		if out := r.ok(t); out != "injected\n" {
			t.Errorf("%s: not at %s: %q", c.path, c.at, out)
		}
		if slices.Contains(r.Created, c.at) != c.made {
			t.Errorf("%s: made %q", c.path, r.Created)
		}
		st, err := os.Lstat(filepath.Join(root.Upper, c.at))
		if c.made && (err != nil || st.Size() != 0) || !c.made && err == nil {
			t.Errorf("%s: in the root: %v, %v", c.path, st, err)
		}
	}
	left, err := os.ReadDir(outside)
	if err != nil || len(left) > 0 {
		t.Errorf("left outside of the root: %v %v", left, err)
	}
}

func TestFiles(t *testing.T) {
	root := newRoot(t)
	files := []File{
		{Path: "/etc/hosts", Data: []byte("127.0.0.1 localhost\n")},
		{Path: "/etc/passwd", Data: []byte("other\n"), Writable: true},
		{Path: "/dev/pipes/EOF", Data: []byte("#!/bin/sh\necho ran as $(id -u)\n"), Mode: 0o755},
		{Path: "/empty/file", Mode: 0o600, UID: 3, GID: 4},
		{Path: "/big", Data: []byte(strings.Repeat("0123456789abcdef", 1<<17))},
	}
	r := start(t, func(c *Config) { c.Files, c.Root = files, root }, "sh", "-c",
		`cat /etc/hosts; (echo x > /etc/hosts) 2>&1 | grep -o Read-only; echo more >> /etc/passwd; cat /etc/passwd; /dev/pipes/EOF; /bin/busybox stat -c "%A %u %g" /empty/file; wc -c < /big`)
	if got, want := r.ok(t), "127.0.0.1 localhost\nRead-only\nother\nmore\nran as 0\n-rw------- 3 4\n2097152\n"; got != want {
		t.Errorf("got %q\nwant %q\n%s", got, want, r.errs)
	}
	// Neither what was injected nor what it was mounted on got into the root.
	if left, err := os.ReadDir(root.Upper); err != nil || len(left) > 0 || len(r.Created) > 0 {
		t.Errorf("in the root: %v, %v; created %q", left, err, r.Created)
	}
}

// Where a mount point must be made in the root, nothing else changes by it.
func TestCreatedMountPoints(t *testing.T) {
	root := newRoot(t)
	if err := os.Symlink("etc/made/file", filepath.Join(root.Upper, "link")); err != nil {
		t.Fatal(err)
	}
	made := start(t, func(c *Config) {
		c.Files, c.Root = []File{{Path: "/link", Data: []byte("x")}}, root
	}, "cat", "/link")
	if out := made.ok(t); out != "x" || !slices.Equal(made.Created, []string{"etc/made", "etc/made/file"}) {
		t.Errorf("%q, created %q", out, made.Created)
	}
	for name, want := range map[string]int64{"etc/made/file": 0, "etc/made": -1, "etc": -1} {
		st, err := os.Stat(filepath.Join(root.Upper, name))
		if err != nil || want == 0 && st.Size() != 0 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
		if name == "etc" && !st.ModTime().Equal(time.Unix(1e9, 0)) {
			t.Errorf("%s has time %s", name, st.ModTime())
		}
	}
}

func TestRoots(t *testing.T) {
	readonly := start(t, func(c *Config) {
		c.Root = rootfs.Mount{Lower: []rootfs.Lower{{Dir: lowerDir}}}
		c.Files = []File{{Path: "/a/b", Data: []byte("injected")}}
	}, "sh", "-c", "cat /a/b; touch /x 2>&1 | grep -o Read-only; ls /proc/1/comm")
	if out := readonly.ok(t); out != "injectedRead-only\n/proc/1/comm\n" {
		t.Errorf("%q", out)
	}
	alone := newRoot(t)
	alone.Lower = nil
	out, err := exec.Command("cp", "-a", filepath.Join(lowerDir, "bin"), alone.Upper).CombinedOutput()
	if err != nil {
		t.Fatal(string(out))
	}
	upper := start(t, func(c *Config) { c.Root = alone }, "sh", "-c", "echo x > /bin/new; cat /proc/1/comm")
	if out := upper.ok(t); out != "cat\n" {
		t.Errorf("%q", out)
	}
	if _, err := os.Stat(filepath.Join(alone.Upper, "bin/new")); err != nil {
		t.Error(err)
	}
}

// Nothing of a run is seen in our own mount namespace.
func TestMountsAreGone(t *testing.T) {
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	during := ""
	start(t, func(c *Config) {
		c.Stdout = writerFunc(func(p []byte) (int, error) {
			data, err := os.ReadFile("/proc/self/mountinfo")
			during = string(data)
			return len(p), err
		})
	}, "echo", "x")
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != during || string(before) != string(after) {
		t.Errorf("mounts before:\n%s\nduring:\n%s\nafter:\n%s", before, during, after)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestMountOptions(t *testing.T) {
	for _, c := range []struct {
		options    string
		set, clear uint64
		data       string
	}{
		{"", 0, 0, ""},
		{"ro,nosuid,noexec", unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC, 0, ""},
		{"ro,rw", 0, unix.MOUNT_ATTR_RDONLY, ""},
		{"rw,ro", unix.MOUNT_ATTR_RDONLY, 0, ""},
		{"noatime", unix.MOUNT_ATTR_NOATIME, unix.MOUNT_ATTR__ATIME, ""},
		{"noatime,strictatime", unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME, ""},
		{"size=1m,nodev,huge=never", unix.MOUNT_ATTR_NODEV, 0, "size=1m,huge=never"},
		{"rprivate,defaults", 0, 0, ""},
	} {
		m, err := newMount(specs.Mount{Destination: "/x", Type: "tmpfs", Options: strings.Split(c.options, ",")})
		if err != nil || m.Set != c.set || m.Clear != c.clear || strings.Join(m.Data, ",") != c.data {
			t.Errorf("%q: %#x %#x %q, %v", c.options, m.Set, m.Clear, m.Data, err)
		}
	}
	for _, bad := range []string{"shared", "rshared", "tmpcopyup", "idmap"} {
		if _, err := newMount(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{bad}}); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}
