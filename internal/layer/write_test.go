package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

func TestLess(t *testing.T) {
	want := []string{".", "!", "+x", "a", "a/b", "a/b/c", "a/c", "a-b", "a.b", "ab", "b", "\xff"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareNames)
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	for i, a := range want {
		for j, b := range want {
			if Less(a, b) != (i < j) {
				t.Errorf("Less(%q, %q) = %t", a, b, Less(a, b))
			}
		}
	}
}

// The bytes of a canonical layer must never change: caches and digests hang on them.
func TestWriteGolden(t *testing.T) {
	dir, info := write(t, nasty()...)
	sum := func(name string) string {
		s := sha256.Sum256(readFile(t, dir, name))
		return hex.EncodeToString(s[:])
	}
	got := fmt.Sprintf("diffID %s\nsize %d\ncontent %s\nentries %d\nbytes %d\ntar %s\nindex %s\n", info.DiffID, info.Size, info.Content,
		info.Entries, info.FileBytes, sum(tarFile), sum(indexFile))
	golden := filepath.Join("testdata", "nasty.golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(readFile(t, golden)), got); diff != "" {
		t.Error(diff)
	}
	if "sha256:"+sum(tarFile) != info.DiffID.String() {
		t.Error("the diffID is not the tar's hash")
	}
}

// What Write wrote, Go's reader reads, and it says what was written.
func TestWriteReadByGo(t *testing.T) {
	files := nasty()
	dir, _ := write(t, files...)
	r := tar.NewReader(bytes.NewReader(readFile(t, dir, tarFile)))
	for _, f := range files {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("%q: %v", f.Name, err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		switch parent, base := splitName(f.Name); {
		case f.Whiteout:
			if want := strings.TrimPrefix(parent+"/"+whiteoutPrefix+base, "./"); h.Name != want || h.Typeflag != tar.TypeReg || h.Size != 0 {
				t.Errorf("whiteout of %q is %+v", f.Name, h)
			}
			continue
		case f.Hard:
			if name != f.Name || h.Linkname != f.Link || h.Typeflag != tar.TypeLink {
				t.Errorf("hard link %q is %+v", f.Name, h)
			}
			continue
		}
		if name != f.Name || h.Linkname != f.Link || h.Uid != f.UID || h.Gid != f.GID || uint32(h.Mode) != f.Mode&0o7777 ||
			!h.ModTime.Equal(f.ModTime.Truncate(time.Second)) || h.Size != f.Size ||
			h.Devmajor != int64(f.Major) || h.Devminor != int64(f.Minor) ||
			h.Uname+h.Gname != "" || !h.AccessTime.IsZero() || !h.ChangeTime.IsZero() {
			t.Errorf("wrote %+v, read %+v", f.Entry, h)
		}
		for k, v := range f.Xattrs {
			if h.PAXRecords["SCHILY.xattr."+k] != v {
				t.Errorf("%q: attribute %s is %q", f.Name, k, h.PAXRecords["SCHILY.xattr."+k])
			}
		}
		if f.Open != nil {
			c, _ := f.Open()
			want, _ := io.ReadAll(c)
			if !bytes.Equal(body, want) {
				t.Errorf("%q: other content", f.Name)
			}
		}
		if f.Opaque {
			if h, err := r.Next(); err != nil || h.Name != f.Name+"/"+whiteoutOpaque {
				t.Errorf("no opaque marker after %q: %+v, %v", f.Name, h, err)
			}
		}
	}
	if h, err := r.Next(); err != io.EOF {
		t.Errorf("more at the end: %+v, %v", h, err)
	}
}

// A layer read by All and written again is the same layer.
func TestWriteAgain(t *testing.T) {
	dir, info := write(t, nasty()...)
	l := open(t, dir)
	again := workDir(t)
	got, err := Write(t.Context(), again, func(yield func(File, error) bool) {
		for s, err := range l.All() {
			if err == nil && s.Implicit {
				continue
			}
			f := File{}
			if err == nil {
				f = File{Entry: s.Entry, Open: func() (io.ReadCloser, error) { return l.Open(s.Name) }}
			}
			if !yield(f, err) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got != info {
		t.Errorf("got %+v, want %+v", got, info)
	}
	for _, name := range []string{tarFile, indexFile} {
		if !bytes.Equal(readFile(t, dir, name), readFile(t, again, name)) {
			t.Errorf("%s differs", name)
		}
	}
}

func TestWriteErrors(t *testing.T) {
	failing := errors.New("disk on fire")
	opens := func(content string, err error) func(*File) {
		return func(f *File) {
			f.Open = func() (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader(content), errReader{err})), nil
			}
		}
	}
	big := strings.Repeat("x", 5<<20)
	for what, c := range map[string]struct {
		files []File
		want  error
		say   string
	}{
		"out of order":        {[]File{regular("b", ""), regular("a", "")}, ErrFormat, `entry "a": out of order, after "b"`},
		"twice":               {[]File{regular("a", ""), regular("a", "")}, ErrFormat, "out of order"},
		"absolute":            {[]File{regular("/a", "")}, ErrFormat, "not a clean name"},
		"dots":                {[]File{regular("a/../b", "")}, ErrFormat, "not a clean name"},
		"empty name":          {[]File{regular("", "")}, ErrFormat, "not a clean name"},
		"NUL":                 {[]File{regular("a\x00b", "")}, ErrFormat, "not a clean name"},
		"long component":      {[]File{regular("a/"+strings.Repeat("b", 256)+"/c", "")}, ErrFormat, `entry "a/` + strings.Repeat("b", 38) + "..." + strings.Repeat("b", 18) + `/c": component "` + strings.Repeat("b", 40) + "..." + strings.Repeat("b", 20) + `" of 256 bytes, 255 are allowed: `},
		"long name":           {[]File{regular("front/"+strings.Repeat("a/", 2045)+"abcdef", "")}, ErrFormat, `entry "front/` + strings.Repeat("a/", 17) + "..." + strings.Repeat("a/", 7) + `abcdef": name of 4102 bytes, 4096 are allowed: `},
		"long whiteout":       {[]File{whiteout(strings.Repeat("a", 5000))}, ErrFormat, `...aaaaaaaaaaaaaaaaaaaa": name of 5000 bytes, 4096 are allowed: `},
		"long and unclean":    {[]File{regular("/"+strings.Repeat("a", 4095), "")}, ErrFormat, `" of 4095 bytes, 255 are allowed: `},
		"called .wh.":         {[]File{regular("d/.wh.x", "")}, ErrFormat, "mean deletions"},
		"below .wh.":          {[]File{regular(".wh.x/d", "")}, ErrFormat, "mean deletions"},
		"whiteout of root":    {[]File{whiteout(".")}, ErrFormat, "whiteout of the root"},
		"root is a file":      {[]File{regular(".", "")}, ErrFormat, "root is not a directory"},
		"below a file":        {[]File{regular("a", ""), regular("a/b", "")}, ErrFormat, `"a" is not a directory`},
		"below a symlink":     {[]File{symlink("a", "/"), regular("a/b", "")}, ErrUnsafe, `goes through symlink "a"`},
		"link to nothing":     {[]File{hardlink("b", "a")}, ErrFormat, "not in the layer"},
		"link to directory":   {[]File{folder("a"), hardlink("b", "a")}, ErrFormat, `hard link to directory "a"`},
		"socket":              {[]File{object("s", unix.S_IFSOCK|0o600)}, ErrFormat, "no place in a layer"},
		"negative owner":      {[]File{with(regular("a", ""), func(f *File) { f.UID = -1 })}, ErrFormat, "out of range"},
		"negative size":       {[]File{with(regular("a", ""), func(f *File) { f.Size = -1 })}, ErrFormat, "size -1"},
		"symlink to nothing":  {[]File{symlink("a", "")}, ErrFormat, "symlink to"},
		"attribute with =":    {[]File{with(regular("a", ""), func(f *File) { f.Xattrs = map[string]string{"user.a=b": ""} })}, ErrFormat, `cannot carry a name with "="`},
		"attribute too large": {[]File{with(regular("a", ""), func(f *File) { f.Xattrs = map[string]string{"user.a": strings.Repeat("x", 65536)} })}, ErrFormat, "extended attribute"},
		"shorter":             {[]File{with(regular("a", "12345"), func(f *File) { f.Size = 6 })}, ErrChanged, `entry "a": shorter than 6 bytes`},
		"longer":              {[]File{with(regular("a", "12345"), func(f *File) { f.Size = 4 })}, ErrChanged, `entry "a": longer than 4 bytes`},
		"no longer empty":     {[]File{with(regular("a", "12345"), func(f *File) { f.Size = 0 })}, ErrChanged, "longer than 0 bytes"},
		"big and shorter":     {[]File{with(regular("a", big), func(f *File) { f.Size++ })}, ErrChanged, "shorter"},
		"big and longer":      {[]File{with(regular("a", big), func(f *File) { f.Size-- })}, ErrChanged, "longer"},
		"no content":          {[]File{with(regular("a", "12345"), func(f *File) { f.Open = nil })}, ErrChanged, "no content"},
		"read fails":          {[]File{with(regular("a", "12345"), opens("123", failing))}, failing, `entry "a": read: disk on fire`},
		"read fails, big":     {[]File{with(regular("a", big), opens(big[:3<<20], failing)), regular("b", big)}, failing, `entry "a"`},
		"no room for our marks": {[]File{with(folder("d"), func(f *File) {
			most := strings.Repeat("x", 65535) // together all that an inode holds
			f.Xattrs = map[string]string{"user.a": most, "user.b": most, "user.c": most, "user.d": most[:65511]}
		}), whiteout("d/x")}, ErrFormat, `entry "d": 262168 bytes of extended attributes`},
		"open fails": {[]File{with(regular("a", "12345"), func(f *File) {
			f.Open = func() (io.ReadCloser, error) { return nil, failing }
		})}, failing, `entry "a": disk on fire`},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Write(t.Context(), dir, each(c.files))
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.say) {
				t.Errorf("got %v, want %v saying %q", err, c.want, c.say)
			}
			expectEmpty(t, dir)
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func expectEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWriteSequenceFails(t *testing.T) {
	dir, failing := t.TempDir(), errors.New("walk failed")
	_, err := Write(t.Context(), dir, func(yield func(File, error) bool) {
		_ = yield(regular("a", "x"), nil) && yield(File{}, failing)
	})
	if !errors.Is(err, failing) {
		t.Errorf("got %v", err)
	}
	expectEmpty(t, dir)
}

func TestWriteCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	dir := t.TempDir()
	files := []File{regular("a", strings.Repeat("x", 40<<20)), with(regular("b", "12345"), func(f *File) {
		open := f.Open
		f.Open = func() (io.ReadCloser, error) { cancel(why); return open() }
	})}
	for i := range 50 {
		files = append(files, regular(fmt.Sprintf("c%02d", i), strings.Repeat("x", 1<<20)))
	}
	if _, err := Write(ctx, dir, each(files)); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	expectEmpty(t, dir)
}

// A full disk is reported as such, at once, and leaves nothing behind.
func TestWriteFullDisk(t *testing.T) {
	dir := smallDisk(t, "1m")
	_, err := Write(t.Context(), dir, each([]File{regular("a", strings.Repeat("x", 64<<20))}))
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	expectEmpty(t, dir)
}

// smallDisk is a tmpfs of that size.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skip("only root can make a small disk")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestWriteDigests(t *testing.T) {
	_, plain := write(t, regular("a", "hello"), regular("b", ""))
	known := func(f *File) { f.Digest = digest.FromString("hello") }
	if _, info := write(t, with(regular("a", "hello"), known), regular("b", "")); info != plain {
		t.Errorf("a known digest changes %+v to %+v", plain, info)
	}
	// It is taken on trust, which is why files read with it are not hashed again.
	lie := func(f *File) { f.Digest = digest.FromString("other") }
	if _, info := write(t, with(regular("a", "hello"), lie), regular("b", "")); info.Content == plain.Content || info.DiffID != plain.DiffID {
		t.Errorf("a wrong digest gives %+v", info)
	}
	odd := func(f *File) { f.Digest = "sha512:nonsense" }
	if _, info := write(t, with(regular("a", "hello"), odd), regular("b", "")); info != plain {
		t.Errorf("an unknown digest changes %+v to %+v", plain, info)
	}
}

// Content ignores times and nothing else.
func TestContent(t *testing.T) {
	base := []File{folder("d"), regular("d/a", "hello"), symlink("l", "d"), regular("r", "other")}
	_, want := write(t, base...)
	change := func(i int, f func(*File)) []File {
		files := slices.Clone(base)
		f(&files[i])
		return files
	}
	_, later := write(t, change(1, func(f *File) { f.ModTime = f.ModTime.Add(time.Hour) })...)
	if later.Content != want.Content || later.DiffID == want.DiffID {
		t.Errorf("a later time gives %+v, was %+v", later, want)
	}
	seen := map[digest.Digest]string{want.Content: "the original"}
	for what, files := range map[string][]File{
		"name":      change(3, func(f *File) { f.Name = "s" }),
		"mode":      change(1, func(f *File) { f.Mode |= 0o111 }),
		"owner":     change(1, func(f *File) { f.UID = 1 }),
		"group":     change(1, func(f *File) { f.GID = 1 }),
		"content":   change(1, func(f *File) { *f = regular("d/a", "hallo") }),
		"target":    change(2, func(f *File) { f.Link = "e" }),
		"attribute": change(1, func(f *File) { f.Xattrs = map[string]string{"user.a": "b"} }),
		"opaque":    change(0, func(f *File) { f.Opaque = true }),
		"implied":   base[1:],
		"fewer":     base[:3],
		"type":      change(3, func(f *File) { *f = object("r", unix.S_IFIFO|0o644) }),
		"whiteout":  change(3, func(f *File) { *f = whiteout("r") }),
		"hard link": change(3, func(f *File) { *f = hardlink("r", "d/a") }),
		"copy":      change(3, func(f *File) { *f = regular("r", "hello") }),
	} {
		_, info := write(t, files...)
		if other, ok := seen[info.Content]; ok {
			t.Errorf("a change of %s gives the content of %s", what, other)
		}
		seen[info.Content] = what
	}
}

// Zeros take no room on disk, wherever in the stream they are.
func TestWriteHoles(t *testing.T) {
	zeros := string(make([]byte, 8<<20))
	files := []File{regular("a", "x"+zeros), regular("b", zeros), regular("c", zeros+"x"), regular("d", "end")}
	dir, info := write(t, files...)
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, tarFile), &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != info.Size || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes take %d on disk", st.Size, st.Blocks*512)
	}
	if got := digest.FromBytes(readFile(t, dir, tarFile)); got != info.DiffID {
		t.Errorf("the tar hashes to %s, not %s", got, info.DiffID)
	}
	l := open(t, dir)
	for _, f := range files {
		c, _ := f.Open()
		want, _ := io.ReadAll(c)
		if got, err := fs.ReadFile(l.FS(), f.Name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: other content, %v", f.Name, err)
		}
	}
}

// Reindex makes the index that Write made.
func TestReindex(t *testing.T) {
	dir, info := write(t, nasty()...)
	want := readFile(t, dir, indexFile)
	if err := os.WriteFile(filepath.Join(dir, indexFile), []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Reindex(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if got != info {
		t.Errorf("got %+v, want %+v", got, info)
	}
	if !bytes.Equal(readFile(t, dir, indexFile), want) {
		t.Error("another index")
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

func TestReindexDamagedTar(t *testing.T) {
	dir, _ := write(t, regular("a", "hello"), regular("b", "world"))
	if err := os.Truncate(filepath.Join(dir, tarFile), 514); err != nil {
		t.Fatal(err)
	}
	if _, err := Reindex(t.Context(), dir); !errors.Is(err, ErrTruncated) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("left are %v", left)
	}
}
