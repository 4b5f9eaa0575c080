package layer

import (
	"archive/tar"
	"bytes"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// someTime is not the epoch and has a fraction that canonical tars cut off.
var someTime = time.Unix(1700000000, 123456789)

func regular(name, content string) File {
	return File{
		Entry: Entry{Name: name, Mode: unix.S_IFREG | 0o644, Size: int64(len(content)), ModTime: someTime},
		Open:  func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
}

func object(name string, mode uint32) File {
	return File{Entry: Entry{Name: name, Mode: mode, ModTime: someTime}}
}

func folder(name string) File { return object(name, unix.S_IFDIR|0o755) }

func symlink(name, target string) File {
	f := object(name, unix.S_IFLNK|0o777)
	f.Link = target
	return f
}

func hardlink(name, target string) File {
	return File{Entry: Entry{Name: name, Hard: true, Link: target}}
}

func whiteout(name string) File { return File{Entry: Entry{Name: name, Whiteout: true}} }

// with returns f changed.
func with(f File, change func(*File)) File {
	change(&f)
	return f
}

// each yields files as Write wants them.
func each(files []File) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		for _, f := range files {
			if !yield(f, nil) {
				return
			}
		}
	}
}

func write(t testing.TB, files ...File) (dir string, info Info) {
	t.Helper()
	dir = workDir(t)
	info, err := Write(t.Context(), dir, each(files))
	if err != nil {
		t.Fatal(err)
	}
	return dir, info
}

func open(t testing.TB, dir string) *Layer {
	t.Helper()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// workDir is a directory that the kernel can mount an index from, which rules
// out tmpfs.
func workDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "nacre-layer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// nasty is one of everything that a layer can hold, in canonical order.
func nasty() []File {
	long := strings.Repeat("long-", 50) + "name" // 254 bytes
	deep := strings.Repeat("deep/", 60) + "end"
	big := func(f *File) { f.UID, f.GID = 3_000_000_000, 3_000_000_001 }
	files := []File{
		with(folder("."), func(f *File) { f.Mode = unix.S_IFDIR | 0o700; f.UID = 7 }),
		folder("!before dots"),
		regular("+x", "plus"),
		folder("a"),
		regular("a-b", "sorts before a/ as bytes, after it as components"),
		regular("a/b", "hello\n"),
		hardlink("a/hard", "a/b"),
		regular("a/\xff\xfe not utf-8", "bytes"),
		regular("a/äöü", "umlauts"),
		regular("a/"+long, "long"),
		symlink("abs", "/etc/passwd"),
		with(object("blk", unix.S_IFBLK|0o660), func(f *File) { f.Major, f.Minor = 259, 70000 }),
		with(object("chr", unix.S_IFCHR|0o600), func(f *File) { f.Major, f.Minor = 1, 3 }),
		regular("deep-end", ""),
		regular("empty", ""),
		object("fifo", unix.S_IFIFO|0o644),
		with(regular("big ids", "x"), big),
		with(regular("caps", "elf"), func(f *File) {
			f.Xattrs = map[string]string{
				"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
				"user.comment":        "with \x00 inside",
				"user.empty-not":      strings.Repeat("v", 2000),
				"trusted.thing":       "yes",
			}
		}),
		hardlink("zz hard to symlink", "abs"),
		with(regular("setuid", "s"), func(f *File) { f.Mode |= 0o6000 }),
		with(folder("sticky"), func(f *File) { f.Mode |= 0o1000 }),
		with(folder("opaque"), func(f *File) { f.Opaque = true }),
		regular("opaque/inside", "in"),
		whiteout("opaque/gone"),
		whiteout("removed"),
		symlink("long link", strings.Repeat("t/", 700)+"t"),
		symlink("middle link", strings.Repeat("t/", 200)+"t"),
		regular("implied/dir/file", "i"),
		with(regular("old", "1969"), func(f *File) { f.ModTime = time.Unix(-86400, 0) }),
		with(regular("future", "2286"), func(f *File) { f.ModTime = time.Unix(10_000_000_000, 0) }),
		regular("large", strings.Repeat("0123456789abcdef", 200_000)),
		regular(deep, "deep"),
		folder("many"),
	}
	for i := range 500 {
		files = append(files, regular("many/"+strings.Repeat("n", i%40)+string(rune('a'+i%26))+strings.Repeat("x", i/26), "many"))
	}
	slices.SortFunc(files, func(a, b File) int { return compareNames(a.Name, b.Name) })
	return slices.CompactFunc(files, func(a, b File) bool { return a.Name == b.Name })
}

// tarItem is an entry of a tar made for a test.
type tarItem struct {
	tar.Header
	body string
}

// makeTar makes a tar with Go's writer.
func makeTar(t testing.TB, items ...tarItem) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		h := i.Header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(i.body))
		}
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, i.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func textItem(name, body string) tarItem { return tarItem{tar.Header{Name: name}, body} }

func item(kind byte, name, link string) tarItem {
	return tarItem{Header: tar.Header{Typeflag: kind, Name: name, Linkname: link, Mode: 0o755}}
}

// listing describes all entries of a layer, one line each, by name.
func listing(t testing.TB, l *Layer) map[string]Stat {
	t.Helper()
	m := make(map[string]Stat)
	for s, err := range l.All() {
		if err != nil {
			t.Fatal(err)
		}
		m[s.Name] = *s
	}
	return m
}

func names(m map[string]Stat) []string { return slices.Sorted(maps.Keys(m)) }

func readFile(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
