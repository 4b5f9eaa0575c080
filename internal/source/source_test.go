package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"nacre/internal/dockerfile"
	"nacre/internal/layer"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// later is a clock by which every file of a test is old enough to be remembered.
func later() time.Time { return time.Now().Add(time.Hour) }

// makeTree writes files below a new directory. A name that ends in "/" is a directory, content
// beginning with "-> " a symlink, with "= " a hard link to another of the files.
func makeTree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for _, hard := range []bool{false, true} {
		for name, content := range files {
			p := filepath.Join(root, name)
			target, isHard := strings.CutPrefix(content, "= ")
			if isHard != hard {
				continue
			}
			must(t, os.MkdirAll(filepath.Dir(p), 0o755))
			link, isLink := strings.CutPrefix(content, "-> ")
			switch {
			case isHard:
				must(t, os.Link(filepath.Join(root, target), p))
			case strings.HasSuffix(name, "/"):
				must(t, os.MkdirAll(p, 0o755))
			case isLink:
				must(t, os.Symlink(link, p))
			default:
				must(t, os.WriteFile(p, []byte(content), 0o644))
			}
		}
	}
	return root
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, dir string, o DirOptions) *Tree {
	t.Helper()
	tree, err := OpenDir(t.Context(), dir, o)
	must(t, err)
	t.Cleanup(func() { tree.Close() })
	return tree
}

func sum(t testing.TB, tree *Tree, names ...string) digest.Digest {
	t.Helper()
	d, err := tree.Sum(t.Context(), names, nil)
	must(t, err)
	return d
}

// names lists everything in the tree but the top, in order.
func names(t testing.TB, tree *Tree) []string {
	t.Helper()
	var list []string
	for f, err := range tree.Files(".") {
		must(t, err)
		if f.Name != "." {
			list = append(list, f.Name)
		}
	}
	return list
}

func TestTreeIsAnFS(t *testing.T) {
	root := makeTree(t, map[string]string{
		"a": "hello", "b/c": "", "b/d/e": "deep", "b/up": "-> ../a", "empty/": "", "b-": "sorts after b/*", "dir": "-> b",
	})
	tree := open(t, root, DirOptions{})
	if err := fstest.TestFS(tree, "a", "b/c", "b/d/e", "empty", "b-"); err != nil {
		t.Error(err)
	}
	want := []string{"a", "b", "b/c", "b/d", "b/d/e", "b/up", "b-", "dir", "empty"}
	if got := names(t, tree); !slices.Equal(got, want) {
		t.Errorf("files are %q, want %q", got, want)
	}
	for f, err := range tree.Files("b/d") {
		must(t, err)
		if f.Name == "b/d/e" {
			rc, err := f.Open()
			must(t, err)
			if b, err := io.ReadAll(rc); string(b) != "deep" || err != nil {
				t.Errorf("read %q, %v", b, err)
			}
			rc.Close()
		}
	}
}

func TestStat(t *testing.T) {
	root := makeTree(t, map[string]string{"f": "12345", "g": "= f", "l": "-> f"})
	when := time.Unix(1234567890, 987654321)
	must(t, os.Chtimes(filepath.Join(root, "f"), when, when))
	must(t, os.Chmod(filepath.Join(root, "f"), 0o6751|os.ModeSetuid))
	must(t, unix.Setxattr(filepath.Join(root, "f"), "user.note", []byte("x\x00y"), 0))
	must(t, unix.Setxattr(filepath.Join(root, "f"), "user.overlay.origin", []byte("private"), 0))
	tree := open(t, root, DirOptions{})
	fi, err := tree.Lstat("f")
	must(t, err)
	st := fi.Sys().(*layer.Stat)
	var real unix.Stat_t
	must(t, unix.Lstat(filepath.Join(root, "f"), &real))
	if st.Name != "f" || st.Mode != real.Mode || st.Size != 5 || !st.ModTime.Equal(when) ||
		st.UID != int(real.Uid) || st.GID != int(real.Gid) || st.Ino != real.Ino || st.Nlink != 2 {
		t.Errorf("Lstat(f) is %+v", st)
	}
	if len(st.Xattrs) != 1 || st.Xattrs["user.note"] != "x\x00y" {
		t.Errorf("xattrs are %q", st.Xattrs)
	}
	other, err := tree.Lstat("g")
	must(t, err)
	if o := other.Sys().(*layer.Stat); o.Ino != st.Ino || o.Hard || o.Link != "" {
		t.Errorf("Lstat(g) is %+v", o)
	}
	if fi, err = tree.Lstat("l"); err != nil || fi.Sys().(*layer.Stat).Link != "f" || fi.Mode().Type() != fs.ModeSymlink {
		t.Errorf("Lstat(l) is %+v, %v", fi, err)
	}
	if fi, err = tree.Stat("l"); err != nil || fi.Sys().(*layer.Stat).Name != "f" {
		t.Errorf("Stat(l) is %+v, %v", fi, err)
	}
	for _, name := range []string{"../x", "/f", "f/", "./f", "a//b", "x\x00", "f/../f"} {
		if _, err := tree.Lstat(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Lstat(%q): %v, want ErrInvalid", name, err)
		}
	}
}

func TestDigests(t *testing.T) {
	root := makeTree(t, map[string]string{"a": "one", "d/b": "two", "d/e/empty": "", "l": "-> a"})
	big := strings.Repeat("0123456789abcdef", 1<<16) // more than one buffer, and a whole number of them
	must(t, os.WriteFile(filepath.Join(root, "d/big"), []byte(big), 0o600))
	tree := open(t, root, DirOptions{})
	must(t, tree.Digests(t.Context(), "d"))
	for name, content := range map[string]string{"d/b": "two", "d/e/empty": "", "d/big": big} {
		if got, want := tree.Digest(name), digest.FromString(content); got != want {
			t.Errorf("digest of %s is %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"a", "l", "d", "missing"} {
		if got := tree.Digest(name); got != "" {
			t.Errorf("digest of %s is %s, want none", name, got)
		}
	}
	must(t, tree.Digests(t.Context(), "a"))
	if tree.Digest("a") != digest.FromString("one") {
		t.Error("digest of a single file is wrong")
	}
	if err := tree.Digests(t.Context(), "missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// Every change of a tree that COPY would carry over changes the sum, and nothing else does.
func TestSum(t *testing.T) {
	base := map[string]string{"a": "1", "d/b": "2", "d/c": "3", "l": "-> a", "h1": "same", "h2": "same"}
	root := makeTree(t, base)
	in := func(name string) string { return filepath.Join(root, name) }
	cases := []struct {
		name   string
		change func()
		same   bool
	}{
		{"content", func() { must(t, os.WriteFile(in("d/b"), []byte("x"), 0o644)) }, false},
		{"mode", func() { must(t, os.Chmod(in("a"), 0o600)) }, false},
		{"setgid", func() { must(t, os.Chmod(in("d"), 0o755|os.ModeSetgid)) }, false},
		{"link target", func() { must(t, os.Remove(in("l"))); must(t, os.Symlink("b", in("l"))) }, false},
		{"new file", func() { must(t, os.WriteFile(in("new"), nil, 0o644)) }, false},
		{"new directory", func() { must(t, os.Mkdir(in("newdir"), 0o755)) }, false},
		{"rename", func() { must(t, os.Rename(in("new"), in("new2"))) }, false},
		{"into the directory", func() { must(t, os.Rename(in("new2"), in("newdir/new2"))) }, false},
		{"xattr", func() { must(t, unix.Setxattr(in("a"), "user.k", []byte("v"), 0)) }, false},
		{"xattr value", func() { must(t, unix.Setxattr(in("a"), "user.k", []byte("w"), 0)) }, false},
		{"xattr of a directory", func() { must(t, unix.Setxattr(in("d"), "user.k", []byte("v"), 0)) }, false},
		{"hard link", func() { must(t, os.Remove(in("h2"))); must(t, os.Link(in("h1"), in("h2"))) }, false},
		{"fifo", func() { must(t, unix.Mkfifo(in("fifo"), 0o644)) }, false},
		{"removed", func() { must(t, os.Remove(in("d/c"))) }, false},
		{"mtime", func() { must(t, os.Chtimes(in("a"), time.Unix(1, 0), time.Unix(1, 0))) }, true},
		{"owner", func() { must(t, os.Lchown(in("a"), 12, 34)) }, true},
		{"socket", func() { makeSocket(t, in("sock")) }, true},
		{"rewritten as it was", func() { must(t, os.WriteFile(in("d/b"), []byte("x"), 0o644)) }, true},
		{"link from outside", func() { must(t, os.Link(in("d/b"), filepath.Join(t.TempDir(), "x"))) }, true},
	}
	cache := filepath.Join(t.TempDir(), "cache")
	state := func() digest.Digest {
		t.Helper()
		tree := open(t, root, DirOptions{StatCache: cache, Now: later})
		d := sum(t, tree, ".")
		must(t, tree.Close())
		other := open(t, root, DirOptions{})
		if fresh := sum(t, other, "."); fresh != d {
			t.Errorf("sum is %s with a cache, %s without", d, fresh)
		}
		generic, err := SumFS(t.Context(), other, []string{"."}, SumOptions{SkipOwner: true})
		if err != nil || generic != d {
			t.Errorf("SumFS is %s, %v; Sum is %s", generic, err, d)
		}
		return d
	}
	seen := map[digest.Digest]string{}
	last := state()
	seen[last] = "base"
	for _, c := range cases {
		c.change()
		d := state()
		switch before, known := seen[d]; {
		case c.same && d != last:
			t.Errorf("%s: the sum changed", c.name)
		case !c.same && known:
			t.Errorf("%s: the sum is that of %q", c.name, before)
		}
		seen[d], last = c.name, d
	}
}

func TestSumOwnersAndNames(t *testing.T) {
	root := makeTree(t, map[string]string{"a": "1", "b": "1", "d/a": "1"})
	tree := open(t, root, DirOptions{})
	if sum(t, tree, "a") == sum(t, tree, "b") {
		t.Error("equal files of other names have equal sums")
	}
	if sum(t, tree, "a", "b") == sum(t, tree, "b", "a") {
		t.Error("order does not count: later sources overwrite earlier ones")
	}
	before, err := SumFS(t.Context(), tree, []string{"d"}, SumOptions{})
	must(t, err)
	must(t, os.Chown(filepath.Join(root, "d/a"), 77, 88))
	after, err := SumFS(t.Context(), open(t, root, DirOptions{}), []string{"d"}, SumOptions{})
	must(t, err)
	if before == after {
		t.Error("the owner does not count")
	}
	if _, err := tree.Sum(t.Context(), []string{"d", "gone"}, nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "gone") {
		t.Errorf("missing name: %v", err)
	}
}

// makeSocket leaves a socket file. The path of a socket is at most 107 bytes, so it is made in
// its directory.
func makeSocket(t testing.TB, p string) {
	t.Helper()
	fd, err := unix.Open(filepath.Dir(p), unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(p))})
	must(t, err)
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestSpecialFiles(t *testing.T) {
	root := makeTree(t, map[string]string{"plain": "x"})
	must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o644))
	must(t, unix.Mknod(filepath.Join(root, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(filepath.Join(root, "disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 70000))))
	makeSocket(t, filepath.Join(root, "sock"))
	tree := open(t, root, DirOptions{})
	want := map[string]fs.FileMode{
		"fifo": fs.ModeNamedPipe, "null": fs.ModeDevice | fs.ModeCharDevice, "disk": fs.ModeDevice, "sock": fs.ModeSocket, "plain": 0,
	}
	list, err := tree.ReadDir(".")
	must(t, err)
	if len(list) != len(want) {
		t.Errorf("%d entries, want %d", len(list), len(want))
	}
	for _, e := range list {
		fi, err := e.Info()
		must(t, err)
		if e.Type() != want[e.Name()] || fi.Mode().Type() != want[e.Name()] {
			t.Errorf("%s: type %v, %v", e.Name(), e.Type(), fi.Mode())
		}
		if e.Name() == "plain" {
			continue
		}
		if _, err := tree.Open(e.Name()); err == nil || !strings.Contains(err.Error(), e.Name()) {
			t.Errorf("Open(%s): %v", e.Name(), err)
		}
	}
	fi, _ := tree.Lstat("disk")
	if st := fi.Sys().(*layer.Stat); st.Major != 259 || st.Minor != 70000 {
		t.Errorf("disk is %d:%d", st.Major, st.Minor)
	}
	done := make(chan struct{})
	go func() { sum(t, tree, "."); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("summing hangs on a special file")
	}
}

func TestSymlinks(t *testing.T) {
	root := makeTree(t, map[string]string{
		"dir/file": "x", "dir/sub/deep": "y",
		"abs": "-> /dir/file", "rel": "-> dir/sub", "chain": "-> rel/../file2", "dir/file2": "z",
		"up": "-> ../../etc/passwd", "dir/up": "-> ../..", "dir/sub/upok": "-> ../../dir/file",
		"absup": "-> /../etc", "loop": "-> loop", "ping": "-> pong", "pong": "-> ping",
		"dangling": "-> nowhere", "tofile": "-> dir/file/x", "self": "-> .", "root": "-> /", "slash": "-> dir//sub/./",
		"secret": "s", "tosecret": "-> secret",
	})
	m, err := dockerfile.NewMatcher([]string{"secret"})
	must(t, err)
	tree := open(t, root, DirOptions{Ignore: m})
	cases := []struct {
		name, want string
		err        error
	}{
		{name: ".", want: "."},
		{name: "", want: "."},
		{name: "dir/file", want: "dir/file"},
		{name: "abs", want: "dir/file"},
		{name: "rel", want: "dir/sub"},
		{name: "rel/deep", want: "dir/sub/deep"},
		{name: "chain", want: "dir/file2"},
		{name: "dir/sub/upok", want: "dir/file"},
		{name: "rel/upok", want: "dir/file"},
		{name: "self/self/dir", want: "dir"},
		{name: "root/dir/file", want: "dir/file"},
		{name: "slash/deep", want: "dir/sub/deep"},
		{name: "up", err: ErrEscape},
		{name: "dir/up", err: ErrEscape},
		{name: "dir/up/etc", err: ErrEscape},
		{name: "absup", err: ErrEscape},
		{name: "loop", err: ErrLoop},
		{name: "ping/x", err: ErrLoop},
		{name: "dangling", err: fs.ErrNotExist},
		{name: "tofile", err: unix.ENOTDIR},
		{name: "dir/file/x", err: unix.ENOTDIR},
		{name: "tosecret", err: fs.ErrNotExist},
	}
	for _, c := range cases {
		got, err := tree.Resolve(c.name)
		if got != c.want || !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.name) {
			t.Errorf("Resolve(%q) is %q, %v; want %q, %v", c.name, got, err, c.want, c.err)
		}
		f, err := tree.Open(c.name)
		if !errors.Is(err, c.err) {
			t.Errorf("Open(%q): %v, want %v", c.name, err, c.err)
		}
		if err == nil {
			f.Close()
		}
	}
	long := t.TempDir()
	must(t, os.WriteFile(filepath.Join(long, "l0"), nil, 0o644))
	for i := 1; i <= 256; i++ {
		must(t, os.Symlink(fmt.Sprintf("l%d", i-1), filepath.Join(long, fmt.Sprintf("l%d", i))))
	}
	chain := open(t, long, DirOptions{})
	if got, err := chain.Resolve("l255"); got != "l0" || err != nil {
		t.Errorf("255 links: %q, %v", got, err)
	}
	if _, err := chain.Resolve("l256"); !errors.Is(err, ErrLoop) {
		t.Errorf("256 links: %v", err)
	}
}

func TestIgnore(t *testing.T) {
	files := map[string]string{
		"keep": "", "node_modules/a/b": "", "node_modules/c": "", "src/main.go": "", "src/main_test.go": "",
		"docs/api/x.md": "", "docs/api/y.txt": "", "docs/z/only.txt": "", "out/keep/me": "", "out/other": "", "link": "-> keep",
		"a/b/c/d/e": "", "empty/": "",
	}
	root := makeTree(t, files)
	cases := []struct {
		patterns []string
		want     []string
	}{
		{nil, []string{"a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e", "docs", "docs/api", "docs/api/x.md", "docs/api/y.txt", "docs/z", "docs/z/only.txt",
			"empty", "keep", "link", "node_modules", "node_modules/a", "node_modules/a/b", "node_modules/c", "out", "out/keep", "out/keep/me", "out/other",
			"src", "src/main.go", "src/main_test.go"}},
		{[]string{"*"}, nil},
		{[]string{"*", "!src"}, []string{"src", "src/main.go", "src/main_test.go"}},
		{[]string{"*", "!a/b/c/d"}, []string{"a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e"}},
		{[]string{"**", "!docs/**/*.md"}, []string{"docs", "docs/api", "docs/api/x.md"}},
		{[]string{"*", "!out", "out/keep", "!**/main.go", "!empty"}, []string{"empty", "out", "out/other", "src", "src/main.go"}},
	}
	for _, c := range cases {
		m, err := dockerfile.NewMatcher(c.patterns)
		must(t, err)
		tree := open(t, root, DirOptions{Ignore: m})
		if got := names(t, tree); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.patterns, got, c.want)
		}
		for name := range files {
			name = strings.TrimSuffix(name, "/")
			_, err := tree.Lstat(name)
			if got := tree.Excluded(name); got != (err != nil) {
				t.Errorf("%q: Excluded(%s) is %v, Lstat says %v", c.patterns, name, got, err)
			}
		}
		if tree.Excluded("nowhere") || tree.Excluded("../x") {
			t.Errorf("%q: what does not exist is excluded", c.patterns)
		}
	}
}

func TestGlob(t *testing.T) {
	root := makeTree(t, map[string]string{
		"a.txt": "", "b.txt": "", "c.md": "", "d/a.txt": "", "d/b.go": "", "e/a.txt": "", "ld": "-> d", "arr[0].txt": "", "st*r": "",
		"d/sub/x.txt": "", "\xff.txt": "", "ünï": "", "hidden.txt": "", ".dot": "", "lf": "-> a.txt", "up": "-> ..",
	})
	m, err := dockerfile.NewMatcher([]string{"hidden.txt"})
	must(t, err)
	tree := open(t, root, DirOptions{Ignore: m})
	cases := []struct {
		pattern string
		want    []string
		err     error
	}{
		{pattern: "*.txt", want: []string{"a.txt", "arr[0].txt", "b.txt", "\xff.txt"}},
		{pattern: "/*.txt", want: []string{"a.txt", "arr[0].txt", "b.txt", "\xff.txt"}},
		{pattern: "?.txt", want: []string{"a.txt", "b.txt", "\xff.txt"}},
		{pattern: "*/a.txt", want: []string{"d/a.txt", "e/a.txt"}},
		{pattern: "d/*", want: []string{"d/a.txt", "d/b.go", "d/sub"}},
		{pattern: "ld/*.txt", want: []string{"d/a.txt"}},
		{pattern: "ld/a.txt", want: []string{"d/a.txt"}},
		{pattern: "d/*/x.txt", want: []string{"d/sub/x.txt"}},
		{pattern: "[a-c].*", want: []string{"a.txt", "b.txt", "c.md"}},
		{pattern: "[^a].txt", want: []string{"b.txt", "\xff.txt"}},
		{pattern: "arr[[]0].txt", want: []string{"arr[0].txt"}},
		{pattern: `st\*r`, want: []string{"st*r"}},
		{pattern: "?n?", want: []string{"ünï"}},
		{pattern: "l*", want: []string{"ld", "lf"}},
		{pattern: "lf", want: []string{"lf"}},
		{pattern: ".", want: []string{"."}},
		{pattern: "./d/", want: []string{"d"}},
		{pattern: ".d*", want: []string{".dot"}},
		{pattern: "nothing*"},
		{pattern: "a.txt/*"},
		{pattern: "nowhere/*"},
		{pattern: "hidden*"},
		{pattern: "hidden.txt"},
		{pattern: "[a", err: filepath.ErrBadPattern},
		{pattern: "nowhere/[a", err: filepath.ErrBadPattern},
		{pattern: "up/*", err: ErrEscape},
		{pattern: "../*", err: fs.ErrInvalid},
	}
	for _, c := range cases {
		got, err := tree.Glob(c.pattern)
		if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("Glob(%q) is %q, %v; want %q, %v", c.pattern, got, err, c.want, c.err)
		}
	}
}

func TestNames(t *testing.T) {
	root := makeTree(t, map[string]string{
		"\xff\xfe": "bytes", "new\nline": "n", strings.Repeat("x", 255): "long", " ": "space", "\x01": "c", "ü": "u", "-rf": "-",
	})
	tree := open(t, root, DirOptions{})
	want := []string{"\x01", " ", "-rf", "new\nline", strings.Repeat("x", 255), "ü", "\xff\xfe"}
	if got := names(t, tree); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	sum(t, tree, ".")
	if tree.Digest("\xff\xfe") != digest.FromString("bytes") {
		t.Error("the file with a name that is not UTF-8 has the wrong digest")
	}
}

// Paths may be longer than PATH_MAX: only single system calls may not.
func TestLongPaths(t *testing.T) {
	for _, fallback := range []bool{false, true} {
		t.Run(fmt.Sprintf("fallback=%v", fallback), func(t *testing.T) {
			noOpenat2.Store(fallback)
			defer noOpenat2.Store(false)
			root := t.TempDir()
			fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
			must(t, err)
			elem := strings.Repeat("d", 200)
			path := ""
			for range 45 { // 9,000 bytes
				must(t, unix.Mkdirat(fd, elem, 0o755))
				next, err := unix.Openat(fd, elem, unix.O_RDONLY|unix.O_DIRECTORY, 0)
				must(t, err)
				unix.Close(fd)
				fd = next
				path = filepath.Join(path, elem)
			}
			file, err := unix.Openat(fd, "end", unix.O_WRONLY|unix.O_CREAT, 0o644)
			must(t, err)
			unix.Write(file, []byte("here"))
			unix.Close(file)
			unix.Close(fd)
			tree := open(t, root, DirOptions{StatCache: filepath.Join(t.TempDir(), "c"), Now: later})
			sum(t, tree, ".")
			if tree.Digest(path+"/end") != digest.FromString("here") {
				t.Error("wrong digest at the end of a long path")
			}
			f, err := tree.Open(path + "/end")
			must(t, err)
			defer f.Close()
			if b, err := io.ReadAll(f); string(b) != "here" || err != nil {
				t.Errorf("read %q, %v", b, err)
			}
			must(t, tree.Close())
			again := open(t, root, DirOptions{StatCache: tree.cache, Now: later})
			if again.Digest(path+"/end") != digest.FromString("here") {
				t.Error("a long path is not remembered")
			}
		})
	}
}

func TestCancel(t *testing.T) {
	root := makeTree(t, map[string]string{"a/b": "x"})
	ctx, cancel := context.WithCancel(t.Context())
	tree := open(t, root, DirOptions{})
	cancel()
	if _, err := OpenDir(ctx, root, DirOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("OpenDir: %v", err)
	}
	if _, err := tree.Sum(ctx, []string{"."}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Sum: %v", err)
	}
	if _, err := SumFS(ctx, tree, []string{"."}, SumOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("SumFS: %v", err)
	}
	sum(t, tree, ".") // a cancelled attempt leaves nothing behind
}

func TestOpenDirErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(file, nil, 0o644))
	for _, dir := range []string{file, file + "-missing"} {
		if _, err := OpenDir(t.Context(), dir, DirOptions{}); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("OpenDir(%s): %v", dir, err)
		}
	}
	link := file + "-link"
	must(t, os.Symlink(t.TempDir(), link))
	tree := open(t, link, DirOptions{})
	must(t, tree.Close())
	must(t, tree.Close())
}

func TestHardLinksAcrossDevices(t *testing.T) {
	tree := &Tree{}
	tree.top.dev = 1
	here := &node{dev: 1, ino: 42, nlink: 2, mode: unix.S_IFREG, state: knowsXattrs}
	there := &node{dev: 2, ino: 42, nlink: 2, mode: unix.S_IFREG, state: knowsXattrs}
	again := &node{dev: 2, ino: 42, nlink: 2, mode: unix.S_IFREG, state: knowsXattrs}
	ino := func(n *node) uint64 {
		st, err := tree.stat(n, "x")
		must(t, err)
		return st.Ino
	}
	if ino(here) == ino(there) || ino(there) != ino(again) {
		t.Errorf("inode numbers: %d here, %d and %d there", ino(here), ino(there), ino(again))
	}
}

// A tree of 100,000 files stays under 60 MB.
func TestMemory(t *testing.T) {
	root := manyFiles(t, ramDir(t), 100_000, 0)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	cache := filepath.Join(t.TempDir(), "cache")
	tree := open(t, root, DirOptions{StatCache: cache, Now: later})
	sum(t, tree, ".")
	retained := heap() - before
	must(t, tree.Close())
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	again := open(t, root, DirOptions{StatCache: cache, Now: later})
	sum(t, again, ".")
	must(t, again.Close())
	runtime.ReadMemStats(&m1)
	allocated := m1.TotalAlloc - m0.TotalAlloc
	t.Logf("%d MB retained, %d MB allocated in all by a warm run", retained>>20, allocated>>20)
	if retained > 30<<20 || allocated > 60<<20 {
		t.Error("more than 30 MB retained or 60 MB allocated")
	}
	runtime.KeepAlive(tree)
	if want := 100_000; again.reused != want {
		t.Errorf("%d files remembered, want %d", again.reused, want)
	}
}

// A very big directory is described by several goroutines.
func TestBigDirectory(t *testing.T) {
	const files = 3*share + 17
	root := ramDir(t)
	for i := range files {
		must(t, os.WriteFile(filepath.Join(root, fmt.Sprintf("%06d", i)), []byte{byte(i)}, 0o644))
	}
	must(t, os.Mkdir(filepath.Join(root, "000000dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "000000dir", "in"), []byte("x"), 0o644))
	cache := filepath.Join(t.TempDir(), "cache")
	var sums []digest.Digest
	for range 2 {
		tree := open(t, root, DirOptions{StatCache: cache, Now: later})
		sums = append(sums, sum(t, tree, "."))
		must(t, tree.Close())
		if got := names(t, tree); len(got) != files+2 || !slices.IsSorted(got) || got[2] != "000000dir/in" {
			t.Errorf("%d names, sorted: %v", len(got), slices.IsSorted(got))
		}
		for _, i := range []int{0, share, files - 1} {
			if name := fmt.Sprintf("%06d", i); tree.Digest(name) != digest.FromBytes([]byte{byte(i)}) {
				t.Errorf("digest of %s is wrong", name)
			}
		}
		if want := len(sums) == 2; want && (tree.hashed != 0 || tree.reused != files+1) {
			t.Errorf("%d files read, %d remembered", tree.hashed, tree.reused)
		}
	}
	if sums[0] != sums[1] {
		t.Error("sums differ")
	}
}

// The result does not depend on openat2, which old kernels and seccomp profiles lack.
func TestFallback(t *testing.T) {
	root := makeTree(t, map[string]string{"a/b/c": "x", "a/l": "-> b"})
	want := sum(t, open(t, root, DirOptions{}), ".")
	noOpenat2.Store(true)
	defer noOpenat2.Store(false)
	if got := sum(t, open(t, root, DirOptions{}), "."); got != want {
		t.Errorf("sum is %s without openat2, %s with it", got, want)
	}
	if fd, err := openBelow(unix.AT_FDCWD, filepath.Join(root, "a/l/c")[1:], unix.O_RDONLY); err == nil {
		unix.Close(fd)
		t.Error("a symlink was followed")
	}
}
