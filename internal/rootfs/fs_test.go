package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
)

func TestFSInterface(t *testing.T) {
	s := newSource(t, false)
	ids := awkward(s)
	// What io/fs cannot open is not for its test.
	ids = append(ids, s.add(whiteout("lib/null"), whiteout("lib/disk"), whiteout("lib/pipe")))
	if err := fstest.TestFS(s.merged(ids...), "etc/passwd", "secret/b", "swap/tofile/new", "opq/new", "lib/link", "etc/dir/in"); err != nil {
		t.Error(err)
	}
	if err := fstest.TestFS(NewFS()); err != nil {
		t.Errorf("empty root: %v", err)
	}
}

func TestFSMerge(t *testing.T) {
	s := newSource(t, false)
	f := s.merged(awkward(s)...)
	for name, want := range map[string]string{
		"":                   "040751 0:0 @1600000000",
		".":                  "040751 0:0 @1600000000",
		"etc":                "040755 0:0 @1",
		"etc/gone":           "absent",
		"etc/dir":            "040755 0:0 @0", // deleted, then implied anew
		"etc/dir/in":         "100644 0:0 @1600000000",
		"secret":             "040700 5:6 @1600000000", // described below, implied above
		"secret/a":           "100644 0:0 @1600000000",
		"secret/deep/er":     "040755 0:0 @0",
		"swap/tofile":        "040755 0:0 @1600000000",
		"swap/todir":         "120777 0:0 @1600000000",
		"swap/todir/one":     "100644 0:0 @1600000000", // through the symlink
		"swap/todir/x":       "absent",
		"opq/old":            "absent",
		"opq/sub/old":        "absent",
		"opq/sub/new":        "100644 0:0 @1600000000",
		"nothing":            "absent",
		"lib/two":            "absent",
		"lib/null":           "020660 0:0 @1600000000",
		"etc/passwd/x":       unix.ENOTDIR.Error(),
		"no/such/thing":      "absent",
		"etc/":               fs.ErrInvalid.Error(),
		"/etc":               fs.ErrInvalid.Error(),
		"etc/../etc":         fs.ErrInvalid.Error(),
		"etc/./passwd":       fs.ErrInvalid.Error(),
		"..":                 fs.ErrInvalid.Error(),
		"a\x00b":             fs.ErrInvalid.Error(),
		"lib/link":           "120777 0:0 @1600000000",
		"etc/" + long(256):   fs.ErrInvalid.Error(),
		long(5000):           fs.ErrInvalid.Error(),
		"new/implied/only":   "040755 0:0 @0",
		"new/implied/only/f": "100644 0:0 @1600000000",
	} {
		got := "absent"
		switch info, err := f.Lstat(name); {
		case err == nil:
			st := info.Sys().(*layer.Stat)
			got = fmt.Sprintf("%06o %d:%d @%d", st.Mode, st.UID, st.GID, st.ModTime.Unix())
			if st.Whiteout || st.Opaque {
				t.Errorf("%s: marks show", name)
			}
		case !errors.Is(err, fs.ErrNotExist):
			got = errors.Unwrap(err).Error()
		}
		if got != want {
			t.Errorf("%.20s: %s, want %s", name, got, want)
		}
	}
}

func long(n int) string { return strings.Repeat("n", n) }

func TestFSInodes(t *testing.T) {
	s := newSource(t, false)
	one := s.add(file("a", "a"), hard("b", "a"))
	two := s.add(file("c", "c"), hard("d", "c"), attr(file("e", ""), "user.x", "only to be another layer"))
	f := s.merged(one, two)
	ino := func(name string) (uint64, uint32) {
		info, err := f.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*layer.Stat)
		return st.Ino, st.Nlink
	}
	a, n := ino("a")
	b, _ := ino("b")
	c, _ := ino("c")
	d, m := ino("d")
	if a != b || c != d || a == c || n != 2 || m != 2 {
		t.Errorf("inodes a %x b %x c %x d %x, links %d %d", a, b, c, d, n, m)
	}
}

func TestFSOpen(t *testing.T) {
	s := newSource(t, false)
	f := s.merged(s.add(file("below", "below")), s.add(file("f", "content"), symlink("l", "/f"), symlink("dangling", "nowhere"), symlink("loop", "loop"), device("dev", unix.S_IFIFO, 0, 0)))
	for name, want := range map[string]string{
		"f": "content", "l": "content", "below": "below", "dangling": fs.ErrNotExist.Error(),
		"loop": unix.ELOOP.Error(), "dev": errNoContent.Error(), ".": "is a directory",
	} {
		got, err := readAll(f, name)
		if err != nil {
			got = errors.Unwrap(err).Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	file, err := f.Open("l")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	part := make([]byte, 3)
	if n, err := file.(io.ReaderAt).ReadAt(part, 2); n != 3 || err != nil || string(part) != "nte" {
		t.Errorf("ReadAt: %d %v %q", n, err, part)
	}
	var b strings.Builder
	if n, err := file.(io.WriterTo).WriteTo(&b); n != 7 || err != nil || b.String() != "content" {
		t.Errorf("WriteTo: %d %v %q", n, err, b.String())
	}
}

func readAll(f *FS, name string) (string, error) {
	file, err := f.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	return string(data), err
}

func TestResolve(t *testing.T) {
	s := newSource(t, false)
	files := []layer.File{
		dir("usr"), dir("usr/bin"), file("usr/bin/sh", ""), symlink("bin", "usr/bin"), symlink("usr/abs", "/usr/bin"),
		symlink("usr/up", "../../../../usr/./bin//"), symlink("dangling", "/no/../nowhere/x"), symlink("loop", "loop2"), symlink("loop2", "/loop"),
		symlink("tofile", "usr/bin/sh"), symlink("root", "/"), symlink("\xff", "usr"),
	}
	for i := range 300 {
		files = append(files, symlink(fmt.Sprintf("chain%03d", i), fmt.Sprintf("chain%03d", i+1)))
	}
	f := s.merged(s.add(files...))
	for _, c := range []struct{ name, want, parent string }{
		{"", ".", "."},
		{"/", ".", "."},
		{"..", ".", "."},
		{"/../../etc", "etc", "etc"},
		{"bin", "usr/bin", "bin"},
		{"bin/", "usr/bin", "bin"},
		{"bin/.", "usr/bin", "usr/bin"},
		{"bin/sh", "usr/bin/sh", "usr/bin/sh"},
		{"bin/..", "usr", "usr"},
		{"/bin//./sh", "usr/bin/sh", "usr/bin/sh"},
		{"usr/abs/new/file", "usr/bin/new/file", "usr/bin/new/file"},
		{"usr/up/sh", "usr/bin/sh", "usr/bin/sh"},
		{"dangling", "nowhere/x", "dangling"},
		{"dangling/y", "nowhere/x/y", "nowhere/x/y"},
		{"missing/../bin", "usr/bin", "bin"},
		{"missing/a/../../bin/sh", "usr/bin/sh", "usr/bin/sh"},
		{"missing/bin", "missing/bin", "missing/bin"},
		{"tofile", "usr/bin/sh", "tofile"},
		{"tofile/x", "error: not a directory", "error: not a directory"},
		{"usr/bin/sh/..", "error: not a directory", "error: not a directory"},
		{"root/root/root/bin", "usr/bin", "bin"},
		{"\xff/bin", "usr/bin", "usr/bin"},
		{"loop", "error: too many levels of symbolic links", "loop"},
		{"loop/x", "error: too many levels of symbolic links", "error: too many levels of symbolic links"},
		{"chain050", "chain300", "chain050"},
		{"chain040", "error: too many levels of symbolic links", "chain040"},
		{"a\x00", "error: invalid argument", "error: invalid argument"},
	} {
		check := func(what, want string, resolve func(string) (string, error)) {
			got, err := resolve(c.name)
			if err != nil {
				got = "error: " + errors.Unwrap(err).Error()
			}
			if got != want {
				t.Errorf("%s(%q) = %q, want %q", what, c.name, got, want)
			}
		}
		check("Resolve", c.want, f.Resolve)
		check("ResolveParent", c.parent, f.ResolveParent)
	}
}

// FuzzResolve: whatever links a root has, names stay clean and inside, and an answer
// is final.
func FuzzResolve(f *testing.F) {
	f.Add("a", "b/../c", "/a", "a/b/c")
	f.Add("../x", "/..", ".", "a/../b/../../c")
	f.Add("b", "a", "//c//", "c/./c")
	f.Fuzz(func(t *testing.T, a, b, c, name string) {
		var files []layer.File
		for n, target := range map[string]string{"a": a, "b": b, "c": c} {
			if target == "" || len(target) > 4000 || strings.Contains(target, "\x00") {
				return
			}
			files = append(files, symlink(n, target))
		}
		s := newSource(t, false)
		root := s.merged(s.add(append(files, dir("d"), symlink("d/e", a))...))
		got, err := root.Resolve(name)
		if err != nil {
			return
		}
		if !valid(got) {
			t.Fatalf("Resolve(%q) = %q", name, got)
		}
		if again, err := root.Resolve(got); err != nil || again != got {
			t.Fatalf("Resolve(%q) = %q, and of that %q, %v", name, got, again, err)
		}
		if parent, err := root.ResolveParent(name); err != nil || !valid(parent) {
			t.Fatalf("ResolveParent(%q) = %q, %v", name, parent, err)
		}
	})
}
