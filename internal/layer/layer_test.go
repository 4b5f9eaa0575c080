package layer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"

	"github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The layer read by its index is what was written.
func TestLayer(t *testing.T) {
	files := nasty()
	dir, info := write(t, files...)
	l := open(t, dir)
	if l.DiffID() != info.DiffID {
		t.Errorf("diffID %s, want %s", l.DiffID(), info.DiffID)
	}
	want := make(map[string]Entry)
	for _, f := range files {
		e := f.Entry
		switch {
		case e.Whiteout:
			e.Mode = unix.S_IFCHR
		case e.Hard:
			e = want[e.Link]
		}
		if !e.ModTime.IsZero() {
			e.ModTime = e.ModTime.Truncate(time.Second)
		}
		e.Name = f.Name
		want[f.Name] = e
	}
	for parent := range maps.Clone(want) {
		for parent != "." {
			parent, _ = splitName(parent)
			if _, ok := want[parent]; !ok {
				want[parent] = Entry{Name: parent, Mode: unix.S_IFDIR | 0o755, ModTime: time.Unix(0, 0)}
			}
		}
	}
	for name, e := range want {
		got, err := l.Lstat(name)
		if err != nil {
			t.Error(err)
			continue
		}
		s := got.Sys().(*Stat)
		if diff := cmp.Diff(e, s.Entry); diff != "" {
			t.Errorf("%q: %s", name, diff)
		}
		implied := strings.HasPrefix(name, "implied") && got.IsDir() || strings.HasPrefix(name, "deep") && got.IsDir()
		if s.Implicit != implied {
			t.Errorf("%q: implicit is %t", name, s.Implicit)
		}
		if got.Mode() != FileMode(e.Mode) || !got.ModTime().Equal(e.ModTime) {
			t.Errorf("%q: %v %v", name, got.Mode(), got.ModTime())
		}
	}
	if got := listing(t, l); !slices.Equal(names(got), slices.Sorted(maps.Keys(want))) {
		t.Error(cmp.Diff(slices.Sorted(maps.Keys(want)), names(got)))
	}
	for _, f := range files {
		if f.Open == nil {
			continue
		}
		c, _ := f.Open()
		content, _ := io.ReadAll(c)
		r, err := l.Open(f.Name)
		if err != nil {
			t.Error(err)
			continue
		}
		if len(content) >= 5000 || strings.HasPrefix(f.Name, "many/n") {
			// TestReader takes its time.
		} else if err := iotest.TestReader(r, content); err != nil {
			t.Errorf("%q: %v", f.Name, err)
		}
		var b bytes.Buffer
		r.(io.Seeker).Seek(3, io.SeekStart)
		if n, err := r.(io.WriterTo).WriteTo(&b); err != nil || n != max(f.Size-3, 0) || !bytes.Equal(b.Bytes(), content[min(3, len(content)):]) {
			t.Errorf("%q: WriteTo gives %d bytes, %v", f.Name, n, err)
		}
		r.Close()
	}
}

func TestLayerOrderAndLinks(t *testing.T) {
	dir, _ := write(t, nasty()...)
	l := open(t, dir)
	last := ""
	for s, err := range l.All() {
		if err != nil {
			t.Fatal(err)
		}
		if last != "" && !Less(last, s.Name) {
			t.Errorf("%q after %q", s.Name, last)
		}
		last = s.Name
	}
	got := listing(t, l)
	a, b := got["a/b"], got["a/hard"]
	if a.Ino != b.Ino || a.Nlink != 2 || b.Nlink != 2 || a.Hard || !b.Hard || b.Link != "a/b" {
		t.Errorf("hard links %+v, %+v", a, b)
	}
	a, b = got["abs"], got["zz hard to symlink"]
	if a.Ino != b.Ino || a.Hard || a.Link != "/etc/passwd" || !b.Hard || b.Link != "abs" {
		t.Errorf("hard linked symlinks %+v, %+v", a, b)
	}
	if n := got["."].Nlink; n != 9 {
		t.Errorf("the root has %d links", n)
	}
}

func TestLayerErrors(t *testing.T) {
	dir, _ := write(t, folder("d"), regular("d/f", "x"), symlink("l", "d"), whiteout("w"))
	l := open(t, dir)
	_, lerr := l.Lstat("none")
	_, rerr := l.ReadDir("d/f")
	_, kerr := l.ReadLink("d")
	_, oerr := l.Open("l")
	_, werr := l.Open("w")
	_, derr := l.Lstat("d/f/below")
	_, serr := l.Lstat("l/f")
	for _, c := range []struct {
		err, want error
		say       string
	}{
		{lerr, fs.ErrNotExist, "lstat none"}, {rerr, nil, "not a directory"}, {kerr, fs.ErrInvalid, "readlink d"},
		{oerr, fs.ErrInvalid, "neither a file nor"}, {werr, fs.ErrInvalid, "open w"},
		{derr, fs.ErrNotExist, "d/f/below"}, {serr, fs.ErrNotExist, "l/f"},
	} {
		var p *fs.PathError
		if !errors.As(c.err, &p) || c.want != nil && !errors.Is(c.err, c.want) || !strings.Contains(c.err.Error(), c.say) {
			t.Errorf("got %v, want %v saying %q", c.err, c.want, c.say)
		}
	}
	for _, bad := range []string{"", "/", "/d", "d/", "../d", "d/..", "d//f", "./d", "d/.", "a\x00"} {
		if _, err := l.Lstat(bad); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Lstat(%q): %v", bad, err)
		}
	}
}

func TestLayerEmpty(t *testing.T) {
	for what, c := range map[string]struct {
		files           []File
		empty, implicit bool
	}{
		"nothing":     {nil, true, true},
		"root":        {[]File{folder(".")}, false, false},
		"opaque root": {[]File{with(folder("."), func(f *File) { f.Opaque = true })}, false, false},
		"file":        {[]File{regular("a", "")}, false, true},
		"all there":   {[]File{folder("."), folder("a"), regular("a/b", "")}, false, false},
		"parent not":  {[]File{folder("."), regular("a/b", "")}, false, true},
		"whiteout":    {[]File{whiteout("a")}, false, true},
	} {
		dir, _ := write(t, c.files...)
		if l := open(t, dir); l.Empty() != c.empty || l.HasImplicit() != c.implicit {
			t.Errorf("%s: empty %t, implicit %t", what, l.Empty(), l.HasImplicit())
		}
	}
}

func TestLayerFS(t *testing.T) {
	dir, _ := write(t, folder("."), folder("a"), regular("a/b", "hello"), folder("a/c"), regular("e", ""),
		regular("large", strings.Repeat("large ", 5000)), regular("ü", "x"))
	if err := fstest.TestFS(open(t, dir).FS(), "a/b", "a/c", "e", "ü", "large"); err != nil {
		t.Error(err)
	}
}

func TestLayerClosed(t *testing.T) {
	dir, _ := write(t, regular("f", "content"))
	l := open(t, dir)
	f, err := l.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	list, err := l.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if b, err := io.ReadAll(f); string(b) != "content" || err != nil {
		t.Errorf("an open file gives %q, %v", b, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	_, rerr := f.Read(make([]byte, 1))
	_, lerr := l.Lstat("f")
	_, ierr := list[0].Info()
	_, oerr := l.Open("f")
	var aerr error
	for _, aerr = range l.All() {
	}
	for _, err := range []error{rerr, lerr, ierr, oerr, aerr, f.Close()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}

// Closing while others read neither crashes nor gives wrong answers.
func TestLayerConcurrent(t *testing.T) {
	dir, _ := write(t, nasty()...)
	l := open(t, dir)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				if i == 0 {
					time.Sleep(time.Millisecond)
					l.Close()
					return
				}
				n := 0
				for _, err := range l.All() {
					if err != nil && !errors.Is(err, fs.ErrClosed) {
						t.Error(err)
					}
					n++
				}
				b, err := fs.ReadFile(l.FS(), "a/b")
				if err == nil && string(b) != "hello\n" || err != nil && !errors.Is(err, fs.ErrClosed) {
					t.Errorf("%q, %v", b, err)
				}
			}
		})
	}
	wg.Wait()
}

// A tar that lost its end gives an error where it is read, not zeros.
func TestLayerShortTar(t *testing.T) {
	dir, _ := write(t, regular("f", strings.Repeat("content", 1000)))
	if err := os.Truncate(filepath.Join(dir, tarFile), 1024); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.ReadFile(open(t, dir).FS(), "f"); !errors.Is(err, ErrTruncated) {
		t.Errorf("got %v", err)
	}
}

// The project's other reader of EROFS sees the same.
func TestIndependentReader(t *testing.T) {
	dir, _ := write(t, nasty()...)
	index, err := os.Open(filepath.Join(dir, indexFile))
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	data, err := os.Open(filepath.Join(dir, tarFile))
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	other, err := erofs.Open(index, erofs.WithExtraDevices(data))
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, dir)
	seen := 0
	for s, err := range l.All() {
		if err != nil {
			t.Fatal(err)
		}
		if !fs.ValidPath(s.Name) {
			continue
		}
		seen++
		var info fs.FileInfo
		if parent, base := splitName(s.Name); s.Name != "." {
			info = entryOf(t, other, parent, base)
		} else if info, err = fs.Stat(other, "."); err != nil {
			t.Fatal(err)
		}
		o := info.Sys().(*erofs.Stat)
		size, modTime := info.Size(), info.ModTime()
		if s.Mode&unix.S_IFMT != unix.S_IFREG {
			size = s.Size // what lengths directories have is their writer's business
		}
		if s.Whiteout {
			modTime = s.ModTime
		}
		if diff := cmp.Diff(
			[]any{s.FileMode() & (fs.ModeType | fs.ModePerm), s.UID, s.GID, s.Size, s.Nlink, s.Ino, s.ModTime},
			[]any{info.Mode() & (fs.ModeType | fs.ModePerm), int(o.UID), int(o.GID), size, uint32(o.Nlink), uint64(o.Ino), modTime}); diff != "" {
			t.Errorf("%q: ours (-), theirs (+):\n%s", s.Name, diff)
		}
		want := maps.Clone(s.Xattrs)
		if want == nil {
			want = make(map[string]string)
		}
		if s.Opaque {
			want[xattrOpaque] = "y"
		}
		if s.Implicit {
			want[xattrImplicit] = "y"
		}
		if s.Name == "." || s.Name == "opaque" { // where the whiteouts are
			want[xattrOrigin] = ""
		}
		if !maps.Equal(want, o.Xattrs) {
			t.Errorf("%q: attributes %v, theirs %v", s.Name, want, o.Xattrs)
		}
		if s.Mode&unix.S_IFMT == unix.S_IFREG {
			ours, err1 := fs.ReadFile(l.FS(), s.Name)
			theirs, err2 := fs.ReadFile(other, s.Name)
			if err1 != nil || err2 != nil || !bytes.Equal(ours, theirs) {
				t.Errorf("%q: %d bytes %v, theirs %d bytes %v", s.Name, len(ours), err1, len(theirs), err2)
			}
		}
	}
	if seen < 500 {
		t.Errorf("only %d names compared", seen)
	}
}

func entryOf(t *testing.T, fsys fs.FS, dir, base string) fs.FileInfo {
	t.Helper()
	list, err := fs.ReadDir(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Name() == base {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			return info
		}
	}
	t.Fatalf("they have no %s in %s", base, dir)
	return nil
}

// Directories of any size, with names on the borders of blocks, are found and listed.
func TestDirectorySizes(t *testing.T) {
	for _, length := range []int{1, 7, 100, 230, 255} {
		var files []File
		for i := range 300 {
			name := fmt.Sprintf("%03d", i)
			if length >= 3 {
				name += strings.Repeat("n", length-3)
			} else {
				name = string([]byte{byte(i%200) + 0x30})
			}
			files = append(files, regular(name, ""))
			if i%50 != 49 && i > 5 {
				continue
			}
			dir, _ := write(t, sortFiles(files)...)
			l := open(t, dir)
			list, err := l.ReadDir(".")
			if err != nil {
				t.Fatal(err)
			}
			for j, f := range sortFiles(files) {
				if list[j].Name() != f.Name {
					t.Fatalf("%d of %d is %q, want %q", j, len(files), list[j].Name(), f.Name)
				}
				if _, err := l.Lstat(f.Name); err != nil {
					t.Fatal(err)
				}
				if _, err := l.Lstat(f.Name + "0"); err == nil {
					t.Fatalf("found %q", f.Name+"0")
				}
			}
			os.RemoveAll(dir)
		}
	}
}

func sortFiles(files []File) []File {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return compareNames(a.Name, b.Name) })
	return slices.CompactFunc(files, func(a, b File) bool { return a.Name == b.Name })
}

func TestFileMode(t *testing.T) {
	for _, mode := range []uint32{0o100644, 0o40755, 0o120777, 0o20600, 0o60660, 0o10644, 0o140755, 0o104755, 0o102755, 0o41777} {
		if got := StMode(FileMode(mode)); got != mode {
			t.Errorf("%o becomes %o", mode, got)
		}
	}
}

func TestOpenDamaged(t *testing.T) {
	dir, _ := write(t, regular("f", "content"))
	good := readFile(t, dir, indexFile)
	for what, change := range map[string]func(b []byte) []byte{
		"empty":         func(b []byte) []byte { return nil },
		"short":         func(b []byte) []byte { return b[:1100] },
		"one block off": func(b []byte) []byte { return b[:len(b)-blockSize] },
		"longer":        func(b []byte) []byte { return append(b, zeros[:]...) },
		"no magic":      func(b []byte) []byte { b[superOffset] = 0; return b },
		"other writer":  func(b []byte) []byte { copy(b[superOffset+64:], "mkfs"); return b },
		"root beyond":   func(b []byte) []byte { binary.LittleEndian.PutUint16(b[superOffset+14:], 0xffff); return b },
		"root no inode": func(b []byte) []byte { binary.LittleEndian.PutUint16(b[superOffset+14:], 0); return b },
	} {
		if err := os.WriteFile(filepath.Join(dir, indexFile), change(bytes.Clone(good)), 0o644); err != nil {
			t.Fatal(err)
		}
		if l, err := Open(dir); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, %v", what, l, err)
		}
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// FuzzIndex reads damaged indexes in every way; none may crash or loop.
func FuzzIndex(f *testing.F) {
	dir, _ := write(f, regular("a/b", "content"), symlink("l", strings.Repeat("x", 600)),
		with(folder("o"), func(f *File) { f.Opaque = true; f.Xattrs = map[string]string{"user.a": "b"} }), whiteout("w"))
	f.Add(readFile(f, dir, indexFile))
	f.Fuzz(func(t *testing.T, index []byte) {
		if len(index) < superOffset+superSize {
			return
		}
		// Sizes and magic are checked elsewhere; get past them.
		index = append(index, zeros[:-len(index)&(blockSize-1)]...)
		sb := index[superOffset:]
		binary.LittleEndian.PutUint32(sb, superMagic)
		binary.LittleEndian.PutUint32(sb[36:], uint32(len(index)>>blockBits))
		copy(sb[64:80], append([]byte(volumePlain), make([]byte, 16)...))
		ix, err := parseIndex(index)
		if err != nil {
			return
		}
		l := &Layer{dir: dir, ix: ix} // not mapped, and not closed
		l.refs.Store(1)
		n := 0
		for s, err := range l.All() {
			if n++; err != nil || n > 100 {
				break
			}
			l.Lstat(s.Name)
			l.ReadDir(s.Name)
			if f, err := l.Open(s.Name); err == nil {
				io.CopyN(io.Discard, f, 10<<10)
				f.Close()
			}
		}
		l.Empty()
	})
}
