package rootfs

import (
	"io"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOver changes a root and reads it without a mount: what is read is what those in the root read.
func TestOver(t *testing.T) {
	names := []string{"etc/passwd", "etc/group", "etc/alias", "etc", "gone/x", "link/f", "plain/x"}
	for name, do := range map[string]func(r root) error{
		"nothing": func(root) error { return nil },
		"changed": func(r root) error { return r.write("etc/passwd", "new") },
		"removed": func(r root) error { return os.Remove(r.p("etc/passwd")) },
		"made anew": func(r root) error {
			return all(os.RemoveAll(r.p("etc")), os.Mkdir(r.p("etc"), 0o755), r.write("etc/group", "only"))
		},
		"removed whole": func(r root) error { return os.RemoveAll(r.p("etc")) },
		"renamed over": func(r root) error {
			return all(r.write("etc/passwd.new", "renamed"), os.Rename(r.p("etc/passwd.new"), r.p("etc/passwd")))
		},
		"absolute link": func(r root) error {
			return all(os.Remove(r.p("etc/passwd")), os.Symlink("/etc/group", r.p("etc/passwd")))
		},
		"link up": func(r root) error {
			return all(os.Remove(r.p("etc/passwd")), os.Symlink("../../../link/../other/f", r.p("etc/passwd")))
		},
		"loop": func(r root) error {
			return all(os.Remove(r.p("etc/passwd")), os.Symlink("passwd", r.p("etc/passwd")))
		},
		"link to nothing": func(r root) error {
			return all(os.Remove(r.p("etc/passwd")), os.Symlink("/proc/self/nothing", r.p("etc/passwd")))
		},
		"directory linked": func(r root) error {
			return all(os.RemoveAll(r.p("etc")), os.Symlink("other", r.p("etc")), r.write("other/passwd", "there"))
		},
		"pipe": func(r root) error {
			return all(os.Remove(r.p("etc/passwd")), unix.Mkfifo(r.p("etc/passwd"), 0o600))
		},
		"file for a directory": func(r root) error { return all(os.RemoveAll(r.p("etc")), r.write("etc", "file")) },
		"directory for a file": func(r root) error {
			return all(os.Remove(r.p("plain")), os.Mkdir(r.p("plain"), 0o755), r.write("plain/x", "x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachForm(t, func(t *testing.T, form Form, s *source) {
				base := s.add(dir("etc"), file("etc/passwd", "old"), file("etc/group", "group"), symlink("etc/alias", "passwd"),
					dir("gone"), file("gone/x", "x"), dir("other"), file("other/f", "f"), symlink("link", "/other"), file("plain", "p"))
				m := s.prepare(form, false, base, s.add(whiteout("gone")))
				want := map[string]string{}
				mounted(t, m, func(r string) error {
					if err := do(root(r)); err != nil {
						return err
					}
					for _, n := range names {
						want[n] = readWithin(r, n)
					}
					return nil
				})
				o := Over(m, s.merged(base, s.add(whiteout("gone"))))
				for _, n := range names {
					got := "error"
					if data, err := fs.ReadFile(o, n); err == nil {
						got = string(data)
					}
					if got != want[n] {
						t.Errorf("%s: %q, and in the root %q", n, got, want[n])
					}
				}
			})
		})
	}
	if _, err := Over(Mount{Upper: t.TempDir()}, NewFS()).Open("../etc/passwd"); err == nil {
		t.Error("a name led out of it")
	}
}

// readWithin reads a regular file as a process does whose root is dir.
func readWithin(dir, name string) string {
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	defer unix.Close(at)
	fd, err := unix.Openat2(at, name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	for err == unix.EAGAIN { // somebody on the machine renamed or mounted meanwhile, and the name has a ".." (openat2(2))
		fd, err = unix.Openat2(at, name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	}
	if err != nil {
		return "error"
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "error"
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(data)
}
