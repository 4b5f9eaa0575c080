package source

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What happens to a file after the walk, and who notices.
func TestChanges(t *testing.T) {
	old := strings.Repeat("old content ", 100)
	cases := []struct {
		name   string
		change func(p string)
		ok     bool // the content is still that of the walk
		// late: without a digest only the identity of the file is known, and this change keeps it.
		late bool
	}{
		{name: "nothing", change: func(string) {}, ok: true},
		{name: "edited", change: func(p string) { must(t, os.WriteFile(p, []byte("new"), 0o644)) }},
		{name: "edited, same size", change: func(p string) { must(t, os.WriteFile(p, []byte(strings.ToUpper(old)), 0o644)) }},
		{name: "edited, same size and mtime", change: func(p string) { edit(t, p, strings.ToUpper(old)) }, late: true},
		{name: "appended", change: func(p string) {
			f, err := os.OpenFile(p, os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			f.WriteString("x")
			f.Close()
		}},
		{name: "truncated", change: func(p string) { must(t, os.Truncate(p, 3)) }},
		{name: "replaced", change: func(p string) {
			must(t, os.WriteFile(p+"~", []byte(old), 0o644))
			must(t, os.Rename(p+"~", p))
		}},
		{name: "removed", change: func(p string) { must(t, os.Remove(p)) }},
		{name: "now a directory", change: func(p string) { must(t, os.Remove(p)); must(t, os.Mkdir(p, 0o755)) }},
		{name: "now a symlink", change: func(p string) {
			must(t, os.Rename(p, p+"~"))
			must(t, os.Symlink(p+"~", p))
		}},
		{name: "now a fifo", change: func(p string) { must(t, os.Remove(p)); must(t, unix.Mkfifo(p, 0o644)) }},
		{name: "directory now a symlink", change: func(p string) {
			must(t, os.Rename(filepath.Dir(p), filepath.Dir(p)+"~"))
			must(t, os.Symlink(filepath.Base(filepath.Dir(p))+"~", filepath.Dir(p)))
		}},
		{name: "hard link made", change: func(p string) { must(t, os.Link(p, p+"2")) }, ok: true},
		{name: "mode changed", change: func(p string) { must(t, os.Chmod(p, 0o600)) }, ok: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, digested := range []bool{false, true} {
				root := makeTree(t, map[string]string{"dir/file": old})
				tree := open(t, root, DirOptions{})
				if digested {
					sum(t, tree, ".")
				}
				tick(t, root)
				c.change(filepath.Join(root, "dir/file"))
				f, err := tree.Open("dir/file")
				var got []byte
				if err == nil {
					got, err = io.ReadAll(f)
					f.Close()
				}
				check(t, "reading", err, c.ok || c.late && !digested)
				if c.ok && string(got) != old {
					t.Errorf("read %q", got)
				}
				if !digested {
					check(t, "hashing", tree.Digests(t.Context(), "."), c.ok || c.late)
				}
			}
		})
	}
}

func check(t *testing.T, what string, err error, ok bool) {
	t.Helper()
	switch {
	case ok && err != nil:
		t.Errorf("%s: %v", what, err)
	case !ok && (!errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "dir")):
		t.Errorf("%s: %v; want ErrChanged that names the file", what, err)
	}
}

// edit rewrites a file of the same size and gives it back its old mtime.
func edit(t testing.TB, p, content string) {
	t.Helper()
	fi, err := os.Stat(p)
	must(t, err)
	if fi.Size() != int64(len(content)) {
		t.Fatal("the test is wrong: the size differs")
	}
	must(t, os.WriteFile(p, []byte(content), 0o644))
	must(t, os.Chtimes(p, fi.ModTime(), fi.ModTime()))
}

// tick waits until the file system stamps files with a new time.
func tick(t testing.TB, dir string) {
	t.Helper()
	stamp := func() int64 {
		f, err := os.CreateTemp(t.TempDir(), "tick")
		must(t, err)
		defer f.Close()
		var st unix.Stat_t
		must(t, unix.Fstat(int(f.Fd()), &st))
		return st.Ctim.Nano()
	}
	for first := stamp(); stamp() == first; {
		time.Sleep(time.Millisecond)
	}
}

// A change in the middle of reading shows at the end.
func TestChangeWhileReading(t *testing.T) {
	content := strings.Repeat("x", 100_000)
	cases := map[string]func(p string){
		"edited behind": func(p string) {
			f, err := os.OpenFile(p, os.O_WRONLY, 0)
			must(t, err)
			f.WriteString("y")
			f.Close()
		},
		"edited and dated back": func(p string) { edit(t, p, strings.Repeat("z", 100_000)) },
		"cut off":               func(p string) { must(t, os.Truncate(p, 60_000)) },
		"longer":                func(p string) { must(t, os.Truncate(p, 200_000)) },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			root := makeTree(t, map[string]string{"dir/file": content})
			tree := open(t, root, DirOptions{})
			f, err := tree.Open("dir/file")
			must(t, err)
			defer f.Close()
			_, err = io.ReadFull(f, make([]byte, 50_000))
			must(t, err)
			tick(t, root)
			change(filepath.Join(root, "dir/file"))
			_, err = io.ReadAll(f)
			check(t, "reading", err, false)
		})
	}
	t.Run("size bytes are enough", func(t *testing.T) {
		root := makeTree(t, map[string]string{"dir/file": content})
		tree := open(t, root, DirOptions{})
		f, err := tree.Open("dir/file")
		must(t, err)
		defer f.Close()
		tick(t, root)
		cases["edited and dated back"](filepath.Join(root, "dir/file"))
		_, err = io.ReadFull(f, make([]byte, len(content)))
		check(t, "reading exactly the size", err, false)
	})
}

func TestFileMethods(t *testing.T) {
	tree := open(t, makeTree(t, map[string]string{"f": "0123456789"}), DirOptions{})
	f, err := tree.Open("f")
	must(t, err)
	s := f.(interface {
		io.ReadSeeker
		io.ReaderAt
	})
	if off, err := s.Seek(-3, io.SeekEnd); off != 7 || err != nil {
		t.Errorf("Seek: %d, %v", off, err)
	}
	if b, err := io.ReadAll(s); string(b) != "789" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := s.Seek(-1, io.SeekStart); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Seek before the start: %v", err)
	}
	b := make([]byte, 4)
	if n, err := s.ReadAt(b, 8); n != 2 || err != io.EOF || string(b[:n]) != "89" {
		t.Errorf("ReadAt: %d, %v", n, err)
	}
	must(t, f.Close())
	if _, err := f.Read(b); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	must(t, tree.Close())
	if _, err := tree.Open("f"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Open after the tree's Close: %v", err)
	}
}

// Files come and go while the walk runs: it must neither fail nor hang.
func TestWalkOfABusyDirectory(t *testing.T) {
	root := makeTree(t, map[string]string{"stay/a": "x", "stay/b": "y"})
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			os.MkdirAll(filepath.Join(root, "d/e"), 0o755)
			os.WriteFile(filepath.Join(root, "d/e/f"), []byte("x"), 0o644)
			os.RemoveAll(filepath.Join(root, "d"))
			os.Symlink("/", filepath.Join(root, "d"))
			os.Remove(filepath.Join(root, "d"))
		}
	}()
	for range 300 {
		tree := open(t, root, DirOptions{})
		if fi, err := tree.Lstat("stay/a"); err != nil || fi.Size() != 1 {
			t.Errorf("stay/a: %v", err)
		}
		tree.Close()
	}
	close(stop)
	<-done
}

// Root may read everything, so this runs as somebody else.
func TestUnreadable(t *testing.T) {
	const env = "SOURCE_TEST_UNREADABLE"
	if root := os.Getenv(env); root != "" {
		unreadable(t, root)
		return
	}
	root := makeTree(t, map[string]string{"ok/file": "x", "sealed/inside": "x", "dir/noread": "x"})
	for p := root; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		must(t, os.Chmod(p, 0o755))
	}
	must(t, os.Chmod(filepath.Join(root, "sealed"), 0))
	must(t, os.Chmod(filepath.Join(root, "dir/noread"), 0))
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestUnreadable$", "-test.v")
	cmd.Env = append(os.Environ(), env+"="+root)
	cmd.Dir = "/"
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestUnreadable") {
		t.Errorf("%v\n%s", err, out)
	}
}

func unreadable(t *testing.T, root string) {
	tree := open(t, root, DirOptions{})
	sum(t, tree, "ok")
	for _, c := range []struct {
		sum, names string
	}{{"sealed", "sealed"}, {"dir", "dir/noread"}, {"dir/noread", "dir/noread"}, {".", "dir/noread"}} {
		_, err := tree.Sum(t.Context(), []string{c.sum}, nil)
		if c.sum == "." { // which of the two is found first does not matter
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("Sum(.): %v", err)
			}
			continue
		}
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), c.names) {
			t.Errorf("Sum(%s): %v", c.sum, err)
		}
	}
	if _, err := tree.ReadDir("sealed"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("ReadDir: %v", err)
	}
	if _, err := tree.Lstat("sealed/inside"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Lstat inside: %v", err)
	}
	if _, err := tree.Open("dir/noread"); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "dir/noread") {
		t.Errorf("Open: %v", err)
	}
	if fi, err := tree.Lstat("dir/noread"); err != nil || fi.Size() != 1 {
		t.Errorf("Lstat of an unreadable file: %v", err)
	}
}
