package store_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nacre/internal/cache/trim"
	"nacre/internal/registry/store"

	"golang.org/x/sys/unix"
)

// trimTest is a store at a time, on a disk.
type trimTest struct {
	*testing.T
	root       string
	now        time.Time
	size, free int64
	s          *store.Store
}

func newTrimTest(t *testing.T) *trimTest {
	tt := &trimTest{T: t, root: t.TempDir(), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), size: 1 << 40, free: 1 << 39}
	tt.reopen()
	return tt
}

// reopen is another process.
func (t *trimTest) reopen() {
	t.Helper()
	t.s = openAt(t.T, t.root, store.Options{Clock: func() time.Time { return t.now }})
	store.SetDisk(t.s, func() (int64, int64) { return t.size, t.free })
}

// step makes a layer, and the record that leads to it.
func (t *trimTest) step(name string) {
	t.Helper()
	l, err := t.s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info := made(t, t.s, l, name)
	if err := t.s.Cache().Put(t.Context(), record("slot", name), output(info)); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	t.now = t.now.Add(2 * time.Hour)
}

// mount makes a cache directory.
func (t *trimTest) mount(id string) {
	t.Helper()
	dir, release, err := t.s.UseCacheDir(t.Context(), store.CacheDirOptions{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	t.now = t.now.Add(2 * time.Hour)
}

// left is what the cache has, after a trim by policy: steps of the names, and cache directories.
func (t *trimTest) left(policy string, names ...string) string {
	t.Helper()
	p, err := trim.Default().Parse("every=0,reserved-space=0," + policy)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := t.s.Trim(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, name := range names {
		if _, ok, err := t.s.Cache().Get(t.Context(), record("slot", name).Key); err != nil {
			t.Fatal(err)
		} else if ok {
			list = append(list, name)
		}
	}
	dirs, err := t.s.CacheDirs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		list = append(list, d.ID)
	}
	return strings.Join(list, " ")
}

func TestTrim(t *testing.T) {
	tt := newTrimTest(t)
	tt.step("a")
	tt.step("b")
	tt.mount("m")
	if got := tt.left("max-used-space=1", "a", "b"); got != "a b m" {
		t.Errorf("a process trimmed what it made: %q is left", got)
	}
	tt.reopen()
	if got := tt.left("min-free-space=1%", "none"); got != "m" {
		t.Errorf("there is room, and %q is left", got)
	}
	tt.free, tt.now = 1<<30, tt.now.Add(90*24*time.Hour)
	if got := tt.left("off,min-free-space=10%", "a"); got != "a m" { // which uses a
		t.Errorf("off, and %q is left", got)
	}
	if got := tt.left("unused-for=60d", "a", "b"); got != "a" {
		t.Errorf("by age, %q is left", got)
	}
	wantSound(t, tt.s)
	tt.reopen() // to whom it is another's, and of this day
	if got := tt.left("unused-for=60d,min-free-space=0", "none"); got != "" {
		t.Fatal(got)
	}
	if got := tt.left("min-free-space=10%", "a"); got != "" {
		t.Errorf("there is no room, and %q is left", got)
	}
	if entries, err := os.ReadDir(filepath.Join(tt.root, "layers")); err != nil || len(entries) > 0 {
		t.Errorf("layers: %v, %v", entries, err)
	}
	wantSound(t, tt.s)
}

// TestTrimSpares: what an image or another process needs stays, however little room there is.
func TestTrimSpares(t *testing.T) {
	tt := newTrimTest(t)
	ctx := t.Context()
	shared := made(t, tt.s, nil, "shared")
	put(t, tt.s, 1, []string{"img"}, shared)
	if err := tt.s.Cache().Put(ctx, record("slot", "shared"), output(shared)); err != nil {
		t.Fatal(err)
	}
	tt.step("held")
	tt.step("idle")
	tt.mount("used")
	other := openAt(t, tt.root, store.Options{})
	l, err := other.Lease(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Layer(ctx, made(t, other, l, "held").DiffID); err != nil {
		t.Fatal(err)
	}
	_, release, err := other.UseCacheDir(ctx, store.CacheDirOptions{ID: "used"})
	if err != nil {
		t.Fatal(err)
	}
	tt.now = tt.now.AddDate(1, 0, 0)
	tt.reopen()
	if got := tt.left("max-used-space=1,unused-for=1h", "shared", "held", "idle"); got != "shared held used" {
		t.Errorf("%q is left", got)
	}
	release()
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	tt.reopen()
	if got := tt.left("max-used-space=1,unused-for=1h", "shared"); got != "shared" {
		t.Errorf("%q is left", got)
	}
	wantSound(t, tt.s)
}

// TestTrimSeldom: once in a while, but sooner where there is no room, and not in a new store.
func TestTrimSeldom(t *testing.T) {
	tt := newTrimTest(t)
	tt.step("a")
	tt.now = tt.now.AddDate(1, 0, 0)
	p, err := trim.Default().Parse("every=1h,reserved-space=0")
	if err != nil {
		t.Fatal(err)
	}
	trims := func() bool {
		t.Helper()
		tt.reopen()
		r, err := tt.s.Trim(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Items) > 0 {
			if r.Bytes <= 0 || r.Records == 0 {
				t.Errorf("%+v", r)
			}
			tt.step("a") // to be old the next time
			tt.now = tt.now.AddDate(1, 0, 0)
			os.Chtimes(filepath.Join(tt.root, "trimmed"), tt.now, tt.now)
		}
		return len(r.Items) > 0
	}
	if trims() {
		t.Error("a new store was trimmed")
	}
	os.Chtimes(filepath.Join(tt.root, "trimmed"), tt.now, tt.now)
	tt.now = tt.now.Add(59 * time.Minute)
	if trims() {
		t.Error("it was trimmed too soon")
	}
	tt.now = tt.now.Add(time.Minute)
	if !trims() {
		t.Error("it was not trimmed when it was time")
	}
	tt.now = tt.now.Add(2 * time.Minute)
	if tt.free = 1000; !trims() {
		t.Error("the disk has no room, and it was not trimmed")
	}
	tt.free, tt.now = 1<<39, tt.now.Add(-24*time.Hour)
	if !trims() {
		t.Error("it was not trimmed after the clock was set back")
	}
}

// TestTrimAtOnce: several processes at it, while others build, take nothing from each other.
func TestTrimAtOnce(t *testing.T) {
	tt := newTrimTest(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		tt.step(name)
	}
	tt.now = tt.now.AddDate(1, 0, 0)
	p, err := trim.Default().Parse("every=0,reserved-space=0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	removed := make(chan int, 4)
	now := tt.now
	for range 4 {
		s := openAt(t, tt.root, store.Options{Clock: func() time.Time { return now }})
		go func() {
			r, err := s.Trim(context.Background(), p)
			removed <- len(r.Items)
			done <- err
		}()
	}
	made(t, tt.s, nil, "new")
	n := 0
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
		n += <-removed
	}
	if n != 4 {
		t.Errorf("%d things were removed, want 4", n)
	}
	wantSound(t, tt.s)
}

// TestTrimLeaves: what there is no time for is left to the next process.
func TestTrimLeaves(t *testing.T) {
	tt := newTrimTest(t)
	tt.mount("m")
	tt.now = tt.now.AddDate(1, 0, 0)
	tt.reopen()
	ctx, cancel := context.WithCancel(t.Context())
	store.AtPoints(tt.s, func(what string) {
		if what == "cache directory removed" {
			cancel()
		}
	})
	p, err := trim.Default().Parse("every=0,reserved-space=0")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := tt.s.Trim(ctx, p); len(r.Items) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if dirs, _ := tt.s.CacheDirs(t.Context()); len(dirs) > 0 {
		t.Errorf("%v", dirs)
	}
	if err := tt.s.Close(); err != nil {
		t.Fatal(err)
	}
	trash := func() []os.DirEntry {
		entries, err := os.ReadDir(filepath.Join(tt.root, "tmp"))
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !strings.HasPrefix(e.Name(), "trash") })
	}
	if len(trash()) != 1 {
		t.Fatalf("the directory is gone: %v", trash())
	}
	for deadline := time.Now().Add(20 * time.Second); len(trash()) > 0; { // the next has as long as it runs
		if time.Now().After(deadline) {
			t.Fatal("nobody removed it")
		}
		tt.reopen()
		if _, err := tt.s.Prune(t.Context(), store.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDropCacheBytes: what is said to be won is what was won. What was used since it was listed stays.
func TestDropCacheBytes(t *testing.T) {
	tt := newTrimTest(t)
	for _, name := range []string{"a", "b"} {
		tt.step(name)
	}
	tt.mount("m")
	if err := os.WriteFile(filepath.Join(tt.root, "contexts/c"), make([]byte, 50_000), 0o600); err != nil {
		t.Fatal(err)
	}
	tt.reopen()
	items, err := tt.s.CacheItems(t.Context(), true)
	if err != nil || len(items) != 4 {
		t.Fatal(items, err)
	}
	want := int64(0)
	for _, c := range items {
		if c.Kind != store.CacheLayer {
			want += c.Size
			continue
		}
		if len(c.Records) != 1 || c.Created.IsZero() {
			t.Errorf("%+v", c)
		}
		if c.Records[0].Key == record("slot", "a").Key {
			want += c.Size
		}
	}
	tt.step("b")
	before := diskUse(t, tt.root)
	r, err := tt.s.DropCache(t.Context(), items)
	if err != nil {
		t.Fatal(err)
	}
	if err := tt.s.Close(); err != nil { // all is unlinked
		t.Fatal(err)
	}
	if won := before - diskUse(t, tt.root); r.Bytes != won || r.Bytes != want || len(r.Items) != 3 || r.Records != 1 {
		t.Errorf("%d bytes of %d things are said to be won, %d were and %d listed", r.Bytes, len(r.Items), won, want)
	}
}

// diskUse is what a store takes, its database left out.
func diskUse(t *testing.T, root string) (n int64) {
	t.Helper()
	for _, dir := range []string{"blobs", "layers", "trees", "caches", "contexts", "tmp"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ os.DirEntry, err error) error {
			var st unix.Stat_t
			if err == nil {
				err = unix.Lstat(path, &st)
			}
			if path != filepath.Join(root, dir) { // which may shrink by a block, or not
				n += st.Blocks * 512
			}
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return n
}
