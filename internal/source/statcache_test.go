package source

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// build is one process's use of a tree; it returns how many files it had to read.
func build(t testing.TB, root, cache string, now func() time.Time) (read int, d digest.Digest) {
	t.Helper()
	tree := open(t, root, DirOptions{StatCache: cache, Now: now})
	d = sum(t, tree, ".")
	must(t, tree.Close())
	return tree.hashed, d
}

func TestStatCache(t *testing.T) {
	root := makeTree(t, map[string]string{"a": "1", "b/c": "2", "b/d": "3", "b-/x": "4", "l": "-> a", "b/e/": ""})
	cache := filepath.Join(t.TempDir(), "new", "folder", "cache")
	in := func(name string) string { return filepath.Join(root, name) }
	last := digest.Digest("")
	for i, c := range []struct {
		name   string
		change func()
		read   int
	}{
		{"first", func() {}, 4},
		{"nothing changed", func() {}, 0},
		{"one edited", func() { must(t, os.WriteFile(in("b/c"), []byte("two"), 0o644)) }, 1},
		{"same size", func() { must(t, os.WriteFile(in("b/c"), []byte("owt"), 0o644)) }, 1},
		{"same size and mtime", func() { edit(t, in("b/c"), "wot") }, 1},
		{"renamed", func() { must(t, os.Rename(in("b/c"), in("b/b"))) }, 1},
		{"replaced by an older file", func() {
			must(t, os.WriteFile(in("tmp"), []byte("9"), 0o644))
			must(t, os.Chtimes(in("tmp"), time.Unix(1, 0), time.Unix(1, 0)))
			must(t, os.Rename(in("tmp"), in("a")))
		}, 1},
		{"removed", func() { must(t, os.Remove(in("b/d"))) }, 0},
		{"added between", func() { must(t, os.WriteFile(in("a0"), []byte("n"), 0o644)) }, 1},
		{"still nothing changed", func() {}, 0},
		{"directory moved", func() { must(t, os.Rename(in("b"), in("z"))) }, 1},
	} {
		tick(t, root)
		c.change()
		read, d := build(t, root, cache, later)
		if read != c.read {
			t.Errorf("%s: %d files read, want %d", c.name, read, c.read)
		}
		if changed := d != last; changed != (c.change != nil && c.name != "nothing changed" && c.name != "still nothing changed") && i > 0 {
			t.Errorf("%s: sum changed: %v", c.name, changed)
		}
		last = d
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(cache), "*")); len(left) != 1 {
		t.Errorf("left beside the cache: %q", left)
	}
}

// A file that was touched just before the walk may be changed again within the same tick of
// the clock: it is not remembered.
func TestRacyFiles(t *testing.T) {
	root := makeTree(t, map[string]string{"f": "1"})
	p := filepath.Join(root, "f")
	// Whole seconds are taken for a coarse clock; this is about the fine one.
	for {
		fi, err := os.Stat(p)
		must(t, err)
		if fi.ModTime().Nanosecond() != 0 {
			break
		}
		must(t, os.WriteFile(p, []byte("1"), 0o644))
	}
	changed := open(t, root, DirOptions{}).top.ext.sub.find("f").ctime
	at := func(d time.Duration) func() time.Time {
		return func() time.Time { return time.Unix(0, changed).Add(d) }
	}
	cache := filepath.Join(t.TempDir(), "cache")
	for _, c := range []struct {
		name string
		now  func() time.Time
		read int
	}{
		{"clock behind the file", at(-time.Hour), 1},
		{"in the same tick", at(0), 1},
		{"still too young", at(fineSteps), 1},
		{"old enough now", at(fineSteps + time.Millisecond), 1},
		{"remembered", at(time.Minute), 0},
	} {
		if read, _ := build(t, root, cache, c.now); read != c.read {
			t.Errorf("%s: %d files read, want %d", c.name, read, c.read)
		}
	}
	must(t, os.Chtimes(p, time.Now().Add(24*time.Hour), time.Now().Add(24*time.Hour)))
	for range 2 {
		if read, _ := build(t, root, cache, later); read != 1 {
			t.Error("a file of tomorrow was remembered")
		}
	}
}

func TestSettled(t *testing.T) {
	began := time.Unix(1000, 0)
	n := func(mtime, ctime float64) *node {
		return &node{mode: 0o100644, state: hasDigest, mtime: int64(mtime * 1e9), ctime: int64(ctime * 1e9)}
	}
	cases := []struct {
		mtime, ctime float64
		slow, want   bool
	}{
		{1, 999.5, false, true},
		{1, 999.99, false, false},
		{999.99, 999.5, false, false},
		{1, 999, false, false}, // whole seconds: a coarse clock
		{1, 998, false, false},
		{1, 997, false, true},
		{1, 996.5, true, false}, // a file server's clock
		{1, 994.5, true, true},
		{2000, 1.5, false, false},
	}
	for _, c := range cases {
		tree := &Tree{began: began, slow: c.slow}
		if got := tree.settled(n(c.mtime, c.ctime)); got != c.want {
			t.Errorf("mtime %v, ctime %v, slow %v: %v, want %v", c.mtime, c.ctime, c.slow, got, c.want)
		}
	}
}

// A damaged cache is as good as none, whatever is wrong with it.
func TestDamagedCache(t *testing.T) {
	root := makeTree(t, map[string]string{"a": "1", "b/c": "2"})
	cache := filepath.Join(t.TempDir(), "cache")
	_, want := build(t, root, cache, later)
	good, err := os.ReadFile(cache)
	must(t, err)
	try := func(name string, data []byte) {
		t.Helper()
		must(t, os.WriteFile(cache, data, 0o600))
		read, d := build(t, root, cache, later)
		if d != want {
			t.Errorf("%s: the sum is wrong", name)
		}
		if read != 2 {
			t.Errorf("%s: %d files read, want 2", name, read)
		}
		if again, _ := build(t, root, cache, later); again != 0 {
			t.Errorf("%s: not repaired", name)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x41
		try(fmt.Sprintf("byte %d changed", i), bad)
	}
	for n := range len(good) {
		try(fmt.Sprintf("cut at %d", n), good[:n])
	}
	try("longer", append(bytes.Clone(good), 0))
	try("other version", reseal(good, func(b []byte) { b[8]++ }))
	try("name beyond the end", reseal(good, func(b []byte) { binary.LittleEndian.PutUint32(b[cacheHeader+2*cacheDirSize:], 1<<30) }))

	must(t, os.Remove(cache))
	must(t, os.Mkdir(cache, 0o755))
	tree := open(t, root, DirOptions{StatCache: cache, Now: later})
	if sum(t, tree, ".") != want {
		t.Error("a directory in its place: the sum is wrong")
	}
	if err := tree.Close(); err == nil {
		t.Error("a directory in its place: no error from Close")
	}
}

// reseal changes b and makes the checksum right again.
func reseal(b []byte, change func([]byte)) []byte {
	b = bytes.Clone(b)
	change(b)
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[16:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func TestCacheIsDeterministic(t *testing.T) {
	root := makeTree(t, map[string]string{"a": "1", "b/c": "2", "b/d/e": "3"})
	dir := t.TempDir()
	var files [2][]byte
	for i := range files {
		p := filepath.Join(dir, fmt.Sprint(i))
		build(t, root, p, later)
		var err error
		files[i], err = os.ReadFile(p)
		must(t, err)
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two caches of one state differ")
	}
}

// An unchanged tree is not written again: nothing is worn out, nobody waits.
func TestCacheIsLeftAlone(t *testing.T) {
	root := makeTree(t, map[string]string{"a": "1"})
	cache := filepath.Join(t.TempDir(), "cache")
	build(t, root, cache, later)
	before, err := os.Stat(cache)
	must(t, err)
	build(t, root, cache, later)
	after, err := os.Stat(cache)
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("the cache was written again")
	}
}

// Several builds of one context at once, while it changes: every sum is right, and the cache
// is whole at any time.
func TestConcurrentBuilds(t *testing.T) {
	root := t.TempDir()
	for i := range 50 {
		must(t, os.WriteFile(filepath.Join(root, fmt.Sprint(i)), []byte(strings.Repeat("x", i)), 0o644))
	}
	cache := filepath.Join(t.TempDir(), "cache")
	for round := range 20 {
		must(t, os.WriteFile(filepath.Join(root, fmt.Sprint(round)), []byte(fmt.Sprint("round ", round)), 0o644))
		want := sum(t, open(t, root, DirOptions{}), ".")
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				tree, err := OpenDir(t.Context(), root, DirOptions{StatCache: cache, Now: later})
				if err != nil {
					t.Error(err)
					return
				}
				got, err := tree.Sum(t.Context(), []string{"."}, nil)
				if err != nil || got != want {
					t.Errorf("round %d: %s, %v; want %s", round, got, err, want)
				}
				if err := tree.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		b, err := os.ReadFile(cache)
		must(t, err)
		if _, err := parseCache(b); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

// What a killed process left behind does not stop the next one.
func TestLeftoverTemporary(t *testing.T) {
	root := makeTree(t, map[string]string{"a": "1"})
	cache := filepath.Join(t.TempDir(), "cache")
	must(t, os.WriteFile(cache+".tmp", bytes.Repeat([]byte("junk"), 10_000), 0o600))
	build(t, root, cache, later)
	if read, _ := build(t, root, cache, later); read != 0 {
		t.Error("nothing was saved")
	}
}

func FuzzCache(f *testing.F) {
	root := makeTree(f, map[string]string{"a": "1", "b/c": "2", "b/d": "3"})
	tree, err := OpenDir(f.Context(), root, DirOptions{Now: later})
	must(f, err)
	must(f, tree.Digests(f.Context(), "."))
	f.Add(tree.encodeCache())
	f.Add([]byte(cacheMagic))
	tree.Close()
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < cacheHeader {
			return
		}
		// A fuzzer cannot guess a checksum or a magic; what is behind them is what matters.
		b = reseal(b, func(b []byte) {
			copy(b, cacheMagic)
			binary.LittleEndian.PutUint32(b[8:], cacheVersion)
		})
		c, err := parseCache(b)
		if err != nil {
			return
		}
		for i := range len(c.dirs) / cacheDirSize {
			d := c.dirs[i*cacheDirSize:]
			off := binary.LittleEndian.Uint32(d)
			path := string(c.names[off : off+binary.LittleEndian.Uint32(d[4:])])
			for _, name := range []string{"", "a", "c", "d", "\xff"} {
				c.dir(path).take(&node{name: name})
			}
		}
		c.dir(".").take(&node{name: "a"})
	})
}
