package volume

import (
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nacre/internal/layer"
	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

var day = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

// imageOf is an image of one layer with these files, in canonical order.
func imageOf(t testing.TB, files ...layer.File) *rootfs.FS {
	t.Helper()
	dir := t.TempDir()
	if _, err := layer.Write(t.Context(), dir, sequence(files)); err != nil {
		t.Fatal(err)
	}
	l, err := layer.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return rootfs.NewFS(l)
}

func sequence(files []layer.File) iter.Seq2[layer.File, error] {
	return func(yield func(layer.File, error) bool) {
		for _, f := range files {
			if !yield(f, nil) {
				return
			}
		}
	}
}

func dir(name string, mode uint32, uid int) layer.File {
	return layer.File{Entry: layer.Entry{Name: name, Mode: unix.S_IFDIR | mode, UID: uid, GID: uid + 1, ModTime: day}}
}

func file(name, text string, mode uint32, uid int, xattrs map[string]string) layer.File {
	e := layer.Entry{Name: name, Mode: unix.S_IFREG | mode, UID: uid, GID: uid, Size: int64(len(text)), ModTime: day, Xattrs: xattrs}
	return layer.File{Entry: e, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

func symlink(name, target string) layer.File {
	return layer.File{Entry: layer.Entry{Name: name, Mode: unix.S_IFLNK | 0o777, Link: target, ModTime: day}}
}

func special(name string, mode uint32) layer.File {
	return layer.File{Entry: layer.Entry{Name: name, Mode: mode, Major: 1, Minor: 3, ModTime: day}}
}

// testImage has one of everything in /srv/data.
func testImage(t testing.TB) *rootfs.FS {
	hard := file("srv/data/hard", "", 0o640, 5, nil)
	hard.Hard, hard.Link, hard.Open, hard.Size = true, "srv/data/a", nil, 0
	return imageOf(t,
		dir("etc", 0o755, 0), file("etc/passwd", "root", 0o644, 0, nil),
		dir("srv", 0o755, 0),
		dir("srv/data", 0o1770, 7),
		file("srv/data/a", "content of a", 0o640, 5, map[string]string{"user.colour": "red"}),
		special("srv/data/device", unix.S_IFCHR|0o600),
		hard,
		symlink("srv/data/link", "/etc/passwd"),
		special("srv/data/pipe", unix.S_IFIFO|0o622),
		file("srv/data/prog", "#!", 0o4755, 0, map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}),
		dir("srv/data/readonly", 0o555, 3),
		file("srv/data/readonly/f", strings.Repeat("x", 300<<10), 0o444, 3, nil),
		symlink("srv/escape", "../../../../../../../../etc"),
		symlink("srv/inside", "/srv/data"),
		symlink("srv/loop", "loop"),
		symlink("srv/nowhere", "/not/there"),
	)
}

// wholeVolume fails unless the volume has all that testImage has in /srv/data.
func wholeVolume(t *testing.T, data string) {
	t.Helper()
	for name, want := range map[string]string{
		".": "43f8 7:8", "a": "81a0 5:5", "hard": "81a0 5:5", "link": "a1ff 0:0", "pipe": "1192 0:0", "prog": "89ed 0:0",
		"readonly": "416d 3:4", "readonly/f": "8124 3:3", "device": "2180 0:0",
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(data, name), &st); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := fmt.Sprintf("%x %d:%d", st.Mode, st.Uid, st.Gid); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if name != "." && st.Mtim.Sec != day.Unix() {
			t.Errorf("%s: time %v", name, time.Unix(st.Mtim.Unix()))
		}
	}
	var a, hard unix.Stat_t
	if unix.Lstat(data+"/a", &a) != nil || unix.Lstat(data+"/hard", &hard) != nil || a.Ino != hard.Ino || a.Nlink != 2 {
		t.Error("the hard link is a file of its own")
	}
	buf := make([]byte, 100)
	if n, err := unix.Lgetxattr(data+"/a", "user.colour", buf); err != nil || string(buf[:n]) != "red" {
		t.Errorf("attribute: %q, %v", buf[:max(0, n)], err)
	}
	if n, err := unix.Lgetxattr(data+"/prog", "security.capability", buf); err != nil || n != 20 {
		t.Errorf("capability: %d, %v", n, err)
	}
	if text, err := os.ReadFile(data + "/a"); err != nil || string(text) != "content of a" {
		t.Errorf("content %q, %v", text, err)
	}
	if text, err := os.ReadFile(data + "/readonly/f"); err != nil || len(text) != 300<<10 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	for _, name := range []string{fillName, readyName} {
		if _, err := os.Lstat(filepath.Join(filepath.Dir(data), name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}

func prepare(t testing.TB, v *Volumes, image *rootfs.FS, m Mount) error {
	t.Helper()
	m.Type = TypeVolume
	_, hold, err := v.Prepare(t.Context(), "c0ffee", []Mount{m}, image)
	if err == nil {
		hold.Close()
	}
	return err
}

func TestFill(t *testing.T) {
	v, image := newVolumes(t), testImage(t)
	for _, target := range []string{"/srv/data", "/srv/inside"} {
		name := strings.ReplaceAll(target[1:], "/", "-")
		if err := prepare(t, v, image, Mount{Source: name, Target: target}); err != nil {
			t.Fatal(err)
		}
		wholeVolume(t, v.Mountpoint(name))
		// What the user then does with it is the user's business.
		if err := os.Remove(v.Mountpoint(name) + "/a"); err != nil {
			t.Fatal(err)
		}
		if err := prepare(t, v, image, Mount{Source: name, Target: target}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(v.Mountpoint(name) + "/a"); err == nil {
			t.Error("it was filled again")
		}
	}
	for target, want := range map[string]string{
		"/srv/escape": "passwd", "/srv/nowhere": "", "/new": "", "/etc/passwd": "cannot mount volume over existing file, file exists /etc/passwd",
		"/srv/loop": "too many levels", "/etc/passwd/x": "not a directory",
	} {
		v := newVolumes(t)
		err := prepare(t, v, image, Mount{Source: "data", Target: target})
		if err != nil {
			if want == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", target, err)
			}
			continue
		}
		if got := strings.Join(namesIn(v.Mountpoint("data")), " "); got != want {
			t.Errorf("%s: has %q, want %q", target, got, want)
		}
	}
	for _, m := range []Mount{
		{Source: "nocopy", Target: "/srv/data", NoCopy: true}, {Source: "part", Target: "/srv/data", Subpath: "x"},
		{Source: "tmpfs", Target: "/srv/data", Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}},
	} {
		if err := prepare(t, v, image, m); err != nil {
			t.Fatal(err)
		}
		if list := namesIn(v.Mountpoint(m.Source)); len(list) > 0 {
			t.Errorf("%s was filled: %v", m.Source, list)
		}
	}
}

func namesIn(dir string) (out []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// Killed anywhere, the next use of a volume fills it whole, and what a container wrote meanwhile stays.
func TestKilledWhileFilling(t *testing.T) {
	image := testImage(t)
	for _, at := range []string{"volume made 1", "unpacked 1", "about to move 1", "about to move 2", "about to move 5", "moved 1"} {
		t.Run(at, func(t *testing.T) {
			root := t.TempDir()
			v := Open(newFolder(t, root))
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestDie$")
			cmd.Env = append(os.Environ(), "VOLUME_DIE="+root, "VOLUME_AT="+at)
			out, err := cmd.CombinedOutput()
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != -1 {
				t.Fatalf("it was not killed: %v\n%s", err, out)
			}
			if strings.HasPrefix(at, "about to move") {
				// A container that began with another image has it mounted, and writes.
				if err := os.WriteFile(v.Mountpoint("data")+"/prog", []byte("theirs"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := prepare(t, v, image, Mount{Source: "data", Target: "/srv/data"}); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(at, "about to move") {
				if text, _ := os.ReadFile(v.Mountpoint("data") + "/prog"); string(text) != "theirs" {
					t.Errorf("what a container wrote became %q", text)
				}
				if got := strings.Join(namesIn(v.Mountpoint("data")), " "); got != "a device hard link pipe prog readonly" {
					t.Errorf("has %s", got)
				}
				return
			}
			wholeVolume(t, v.Mountpoint("data"))
		})
	}
}

// TestDie is the one that is killed.
func TestDie(t *testing.T) {
	root := os.Getenv("VOLUME_DIE")
	if root == "" {
		return
	}
	i := strings.LastIndexByte(os.Getenv("VOLUME_AT"), ' ')
	at, number := os.Getenv("VOLUME_AT")[:i], os.Getenv("VOLUME_AT")[i+1:]
	v, n := Open(newFolder(t, root)), 0
	v.testOnlyPoint = func(what string) {
		if what != at {
			return
		}
		if n++; fmt.Sprint(n) == number {
			unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	prepare(t, v, testImage(t), Mount{Source: "data", Target: "/srv/data"})
}

// An ordinary user fills volumes, too: with files that are all that user's.
func TestFillAsUser(t *testing.T) {
	if root := os.Getenv("VOLUME_USER"); root != "" {
		t.Setenv("TMPDIR", root)
		v := Open(newFolder(t, root))
		if err := prepare(t, v, testImage(t), Mount{Source: "data", Target: "/srv/data"}); err != nil {
			t.Fatal(err)
		}
		if err := v.Remove(t.Context(), "data"); err != nil {
			t.Fatal(err)
		}
		if err := prepare(t, v, testImage(t), Mount{Source: "data", Target: "/srv/data"}); err != nil {
			t.Fatal(err)
		}
		return
	}
	root, err := os.MkdirTemp("", "volume")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	const nobody = 65534
	if err := os.Chown(root, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestFillAsUser$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "VOLUME_USER="+root)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data := filepath.Join(root, "volumes/data", dataName)
	if got := strings.Join(namesIn(data), " "); got != "a hard link pipe prog readonly" { // no devices
		t.Errorf("has %s", got)
	}
	var st unix.Stat_t
	if err := unix.Lstat(data+"/readonly", &st); err != nil || st.Mode != unix.S_IFDIR|0o555 || st.Uid != nobody {
		t.Errorf("%o of %d, %v", st.Mode, st.Uid, err)
	}
	if text, err := os.ReadFile(data + "/readonly/f"); err != nil || len(text) != 300<<10 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

// A volume that many containers begin with at once is filled once, whole for each of them.
func TestFillAtOnce(t *testing.T) {
	v, image := newVolumes(t), testImage(t)
	done := make(chan error)
	for i := range 8 {
		go func() {
			_, hold, err := v.Prepare(t.Context(), fmt.Sprintf("%064d", i), []Mount{{Type: TypeVolume, Source: "data", Target: "/srv/data"}}, image)
			if err == nil {
				defer hold.Close()
				_, err = os.ReadFile(v.Mountpoint("data") + "/readonly/f")
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	wholeVolume(t, v.Mountpoint("data"))
}
