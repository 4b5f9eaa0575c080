package property

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// testCase is what a seed stands for: how it begins, and changes, each from a seed of its own, so
// that one can be left out and the others stay what they are.
type testCase struct {
	seed    uint64
	lines   []string // instructions, FROM included
	files   []testFile
	ignore  []string
	changes []uint64
}

// testFile is an object of the context.
type testFile struct {
	name, data string
	kind       byte // 'f', 'd', 'l' symlink to data, 'h' hard link of data, 't' a tar
	mode       os.FileMode
	mtime      int64
}

func newCase(seed uint64) *testCase {
	r := rand.New(rand.NewPCG(seed, 0))
	c := &testCase{seed: seed, files: randomFiles(r)}
	if r.IntN(2) == 0 {
		c.ignore = append(c.ignore, pick(r, ignorePatterns))
	}
	for range 1 + r.IntN(3) {
		c.lines = appendStage(r, c.lines)
	}
	for range 1 + r.IntN(2) {
		c.changes = append(c.changes, r.Uint64())
	}
	return c
}

func (c *testCase) clone() *testCase {
	d := *c
	d.lines, d.files = slices.Clone(c.lines), slices.Clone(c.files)
	d.ignore, d.changes = slices.Clone(c.ignore), slices.Clone(c.changes)
	return &d
}

func (c *testCase) String() string {
	var b strings.Builder
	w := &world{lines: c.lines, ignore: c.ignore}
	fmt.Fprintf(&b, "%s\nignored: %q\n", w.dockerfile(), c.ignore)
	for _, f := range c.files {
		fmt.Fprintf(&b, "%c %q %o %d %.20q\n", f.kind, f.name, f.mode, f.mtime, f.data)
	}
	dir, err := os.MkdirTemp("", "case-")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(dir)
	if w, err = c.start(filepath.Join(dir, "ctx")); err != nil {
		return err.Error()
	}
	for _, seed := range c.changes {
		said, err := w.change(seed)
		fmt.Fprintf(&b, "then: %s (%v)\n", said, err)
	}
	return b.String()
}

// world is a case on the disk, at some moment.
type world struct {
	dir    string
	lines  []string
	ignore []string
	args   map[string]string
	tags   map[string]string
	epoch  string
}

func (w *world) dockerfile() string { return "ARG BASE=base:1\n" + strings.Join(w.lines, "\n") + "\n" }

// start makes the context.
func (c *testCase) start(dir string) (*world, error) {
	w := &world{
		dir: dir, lines: slices.Clone(c.lines), ignore: slices.Clone(c.ignore), epoch: "1200000000",
		args: map[string]string{"A": "a"}, tags: map[string]string{"base:cur": "base:1"},
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	for _, f := range c.files {
		if err := f.make(dir); err != nil {
			return nil, err
		}
	}
	return w, w.writeIgnore()
}

func (w *world) writeIgnore() error {
	name := filepath.Join(w.dir, ".dockerignore")
	if len(w.ignore) == 0 {
		os.Remove(name)
		return nil
	}
	return os.WriteFile(name, []byte(strings.Join(w.ignore, "\n")+"\n"), 0o644)
}

func (f testFile) make(dir string) error {
	name := filepath.Join(dir, f.name)
	os.MkdirAll(filepath.Dir(name), 0o755)
	var err error
	switch f.kind {
	case 'd':
		err = os.MkdirAll(name, 0o755)
	case 'l':
		os.Symlink(f.data, name)
		return nil // what it points to has a mode and a time of its own
	case 'h':
		os.Link(filepath.Join(dir, f.data), name) // which may have been left out
		return nil
	case 't':
		err = os.WriteFile(name, smallTar(f.data), 0o644)
	default:
		err = os.WriteFile(name, []byte(f.data), 0o644)
	}
	if err != nil {
		return err
	}
	if err := os.Chmod(name, f.mode); err != nil {
		return err
	}
	return os.Chtimes(name, time.Unix(f.mtime, 0), time.Unix(f.mtime, 0))
}

func smallTar(data string) []byte {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	at := time.Unix(1100000000+int64(len(data)), 0)
	for _, h := range []tar.Header{
		{Name: "t/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 5, ModTime: at},
		{Name: "t/f", Typeflag: tar.TypeReg, Mode: 0o4711, Size: int64(len(data)), ModTime: at},
		{Name: "t/l", Typeflag: tar.TypeSymlink, Linkname: "../f", Mode: 0o777, ModTime: at},
	} {
		tw.WriteHeader(&h)
		if h.Size > 0 {
			tw.Write([]byte(data))
		}
	}
	tw.Close()
	return buf.Bytes()
}

// fileNames are odd ones among others.
var fileNames = []string{
	"a", "b", "c.txt", "d.txt", "dir/a", "dir/b.txt", "dir/sub/c", "dir/sub/d.txt", "other/x", "other/y.txt",
	"with space", "dir/ünï", "odd/[x]", "odd/*", "odd/-n", "odd/back\\slash", "odd/$A", "odd/new\nline", ".hidden", "dir/.keep",
}

var modes = []os.FileMode{0o644, 0o755, 0o600, 0o444, 0o755 | os.ModeSetuid, 0o640}

func randomFiles(r *rand.Rand) []testFile {
	files := []testFile{
		{name: "a", data: "of a", kind: 'f', mode: 0o644, mtime: someTime(r)},
		{name: "dir", kind: 'd', mode: 0o755, mtime: someTime(r)},
		{name: "dir/a", data: "of dir/a", kind: 'f', mode: 0o644, mtime: someTime(r)},
		{name: "dir/sub/deep", data: "deep", kind: 'f', mode: 0o644, mtime: someTime(r)},
		{name: "x.tar", data: "in a tar", kind: 't', mode: 0o644, mtime: someTime(r)},
	}
	seen := map[string]bool{"a": true, "dir/a": true}
	for range 3 + r.IntN(6) {
		if name := pick(r, fileNames); !seen[name] {
			seen[name] = true
			files = append(files, testFile{name: name, data: fmt.Sprint("content ", r.IntN(50)), kind: 'f', mode: pick(r, modes), mtime: someTime(r)})
		}
	}
	if r.IntN(2) == 0 {
		files = append(files, testFile{name: "dir/link", data: pick(r, []string{"a", "../a", "/a", "sub", "nowhere", "../x.tar"}), kind: 'l'})
	}
	if r.IntN(2) == 0 {
		files = append(files, testFile{name: "link", data: pick(r, []string{"a", "dir", "/dir/sub", "dir/link"}), kind: 'l'})
	}
	if r.IntN(2) == 0 {
		files = append(files, testFile{name: pick(r, []string{"hard", "dir/hard", "other/hard"}), data: pick(r, []string{"a", "dir/a"}), kind: 'h'})
	}
	if r.IntN(3) == 0 {
		files = append(files, testFile{name: "dir/empty", kind: 'd', mode: pick(r, []os.FileMode{0o700, 0o755, 0o777 | os.ModeSticky}), mtime: someTime(r)})
	}
	return files
}

// someTime is before or after SOURCE_DATE_EPOCH.
func someTime(r *rand.Rand) int64 { return 1_100_000_000 + int64(r.IntN(20))*10_000_000 }

var ignorePatterns = []string{"dir/sub", "*.txt", "**/*.txt", "other", "!a", "dir\n!dir/a", "**/hard", "link", "odd/*", ".hidden", "b", "*\n!dir\n!a"}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// objects are the names below the context, files and links, or directories.
func (w *world) objects(dirs bool) []string {
	var names []string
	filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(w.dir, path)
		if err == nil && name != "." && name != ".dockerignore" && d.IsDir() == dirs {
			names = append(names, name)
		}
		return nil
	})
	return names
}

// shadows are build arguments, for a change to say.
func (w *world) shadows() string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(w.args)) {
		list = append(list, k+"="+w.args[k])
	}
	return strings.Join(list, " ")
}
