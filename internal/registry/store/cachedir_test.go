package store

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nacre/internal/registry"

	"golang.org/x/sys/unix"
)

func openCacheTest(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "store"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// use takes a cache directory for as long as the test runs, or until release.
func use(t *testing.T, s *Store, o CacheDirOptions) (dir string, release func()) {
	t.Helper()
	dir, release, err := s.UseCacheDir(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return dir, release
}

// waits tells that a use has to wait for others.
func waits(t *testing.T, s *Store, o CacheDirOptions) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, release, err := s.UseCacheDir(ctx, o)
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	release()
	return false
}

func TestCacheDirKeeps(t *testing.T) {
	s := openCacheTest(t, Options{})
	fills := 0
	o := CacheDirOptions{ID: "/x/../é", Mode: 0o1770, UID: 5, GID: 6, Fill: func(dir string) error {
		fills++
		return os.WriteFile(filepath.Join(dir, "first"), []byte("1"), 0o600)
	}}
	dir, release := use(t, s, o)
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Mode != unix.S_IFDIR|0o1770 || st.Uid != 5 || st.Gid != 6 {
		t.Errorf("mode %o, owner %d:%d, %v", st.Mode, st.Uid, st.Gid, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "second"), []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	release()
	again, _ := use(t, s, o)
	if again != dir || fills != 1 {
		t.Errorf("%s, then %s, filled %d times", dir, again, fills)
	}
	for _, name := range []string{"first", "second"} {
		if _, err := os.Stat(filepath.Join(again, name)); err != nil {
			t.Error(err)
		}
	}
	o.Variant = "another"
	if other, _ := use(t, s, o); other == dir {
		t.Error("another variant has the same directory")
	}
	o.ID, o.Variant = o.ID+"another", ""
	if other, _ := use(t, s, o); other == dir {
		t.Error("another ID has the same directory")
	}
}

func TestCacheDirSharing(t *testing.T) {
	s := openCacheTest(t, Options{})
	shared := CacheDirOptions{ID: "c", Sharing: SharingShared}
	locked := CacheDirOptions{ID: "c", Sharing: SharingLocked}
	private := CacheDirOptions{ID: "c", Sharing: SharingPrivate}

	dir, release := use(t, s, shared)
	if waits(t, s, shared) || !waits(t, s, locked) {
		t.Error("shared: others that share wait, or one that locks does not")
	}
	other, releaseOther := use(t, s, private)
	if other == dir {
		t.Error("private: got what is in use")
	}
	third, releaseThird := use(t, s, private)
	if third == dir || third == other {
		t.Error("private: got what is in use privately")
	}
	releaseThird()
	releaseOther()
	release()

	dir, release = use(t, s, locked)
	if !waits(t, s, shared) || !waits(t, s, locked) {
		t.Error("locked: others do not wait")
	}
	done := make(chan string)
	go func() {
		d, r, err := s.UseCacheDir(t.Context(), locked)
		if err != nil {
			d = err.Error()
		} else {
			r()
		}
		done <- d
	}()
	release()
	if got := <-done; got != dir {
		t.Errorf("after the wait: %s, want %s", got, dir)
	}
	if again, _ := use(t, s, private); again != dir {
		t.Errorf("private, nothing in use: %s, want %s", again, dir)
	}
}

func TestCacheDirFillFails(t *testing.T) {
	s := openCacheTest(t, Options{})
	want := errors.New("no")
	_, _, err := s.UseCacheDir(t.Context(), CacheDirOptions{ID: "c", Fill: func(string) error { return want }})
	if !errors.Is(err, want) {
		t.Fatalf("error %v", err)
	}
	if list, err := s.CacheDirs(t.Context()); len(list) > 0 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
	if names, _ := readNames(s.path("tmp")); len(names) > 0 {
		t.Errorf("left over: %q", names)
	}
}

func TestCacheDirPrune(t *testing.T) {
	now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	s := openCacheTest(t, Options{Clock: func() time.Time { return now }})
	for _, id := range []string{"old", "new", "used"} {
		dir, release := use(t, s, CacheDirOptions{ID: id})
		if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 100_000), 0o600); err != nil {
			t.Fatal(err)
		}
		if id != "used" {
			release()
		}
		now = now.Add(time.Hour)
	}
	left := func(kind CacheKind, until time.Time) string {
		t.Helper()
		items, err := s.CacheItems(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.DropCache(t.Context(), slices.DeleteFunc(items, func(c CacheItem) bool {
			return c.Kind != kind || !c.Used.Before(until)
		})); err != nil {
			t.Fatal(err)
		}
		list, err := s.CacheDirs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, c := range list {
			ids = append(ids, c.ID)
			if c.Size < 100_000 || c.InUse != (c.ID == "used") || c.Created.IsZero() {
				t.Errorf("%+v", c)
			}
		}
		return strings.Join(ids, " ")
	}
	u, err := s.Usage(t.Context(), true)
	if err != nil || u.CacheDirs.Total != 3 || u.CacheDirs.Active != 1 || u.CacheDirs.Reclaimable >= u.CacheDirs.Size || len(u.CacheDirList) != 3 {
		t.Errorf("usage %+v, %v", u.CacheDirs, err)
	}
	for _, tt := range []struct {
		kind  CacheKind
		until time.Time
		want  string
	}{
		{CacheLayer, now, "used new old"},
		{CacheMount, now.Add(-2 * time.Hour), "used new"},
		{CacheMount, now, "used"}, // also asked for what is in use
	} {
		if got := left(tt.kind, tt.until); got != tt.want {
			t.Errorf("%v until %v leaves %q, want %q", tt.kind, tt.until, got, tt.want)
		}
	}
}

func TestCacheDirMove(t *testing.T) {
	from, to := openCacheTest(t, Options{}), openCacheTest(t, Options{})
	o := CacheDirOptions{ID: "go", Variant: "uid=7", Mode: 0o750, UID: 7}
	dir, release := use(t, from, o)
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o640),
		os.Symlink("/etc/passwd", filepath.Join(dir, "link")),
		os.Mkdir(filepath.Join(dir, "sub"), 0o711),
		os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "sub/hard")),
		os.Chown(filepath.Join(dir, "file"), 1, 2),
		os.Chmod(dir, 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	release()
	_, release = use(t, from, CacheDirOptions{ID: "other"})
	release()

	var one, all bytes.Buffer
	if list, err := from.ExportCacheDirs(t.Context(), &one, []string{"go"}); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if list, err := from.ExportCacheDirs(t.Context(), &all, nil); err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	if _, err := from.ExportCacheDirs(t.Context(), &all, []string{"nope"}); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("error %v", err)
	}

	stale, release := use(t, to, o) // to be replaced
	os.WriteFile(filepath.Join(stale, "stale"), nil, 0o600)
	release()
	if list, err := to.ImportCacheDirs(t.Context(), bytes.NewReader(one.Bytes())); err != nil || len(list) != 1 || list[0].ID != "go" || list[0].Variant != "uid=7" {
		t.Fatal(list, err)
	}
	got, _ := use(t, to, o)
	var st unix.Stat_t
	if err := unix.Stat(got, &st); err != nil || st.Mode&0o7777 != 0o700 || st.Uid != 7 {
		t.Errorf("mode %o, owner %d, %v", st.Mode, st.Uid, err)
	}
	if err := unix.Stat(filepath.Join(got, "sub/hard"), &st); err != nil || st.Nlink != 2 || st.Uid != 1 || st.Gid != 2 || st.Mode&0o7777 != 0o640 {
		t.Errorf("sub/hard: %+v, %v", st, err)
	}
	if target, err := os.Readlink(filepath.Join(got, "link")); target != "/etc/passwd" {
		t.Errorf("link to %q, %v", target, err)
	}
	if _, err := os.Stat(filepath.Join(got, "stale")); err == nil {
		t.Error("what was there is still there")
	}
	empty := openCacheTest(t, Options{})
	for n := 0; n < all.Len(); n += 41 {
		if list, err := empty.ImportCacheDirs(t.Context(), bytes.NewReader(all.Bytes()[:n])); err == nil {
			t.Fatalf("an archive cut off at %d of %d was imported: %v", n, all.Len(), list)
		}
	}
}

// hostileCacheTar is an archive of caches with these entries.
func hostileCacheTar(entries ...[2]string) []byte {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		tw.WriteHeader(&tar.Header{Name: e[0], Mode: 0o644, Size: int64(len(e[1]))})
		tw.Write([]byte(e[1]))
	}
	tw.Close()
	return buf.Bytes()
}

func TestCacheDirHostile(t *testing.T) {
	s := openCacheTest(t, Options{})
	var escape bytes.Buffer
	tw := tar.NewWriter(&escape)
	tw.WriteHeader(&tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/tmp"})
	tw.WriteHeader(&tar.Header{Name: "l/escaped", Size: 1})
	tw.Write([]byte("x"))
	tw.Close()
	const record = `{"id":"a","mode":493}`
	for name, data := range map[string][]byte{
		"empty":           nil,
		"no tar":          []byte("hello"),
		"no entries":      hostileCacheTar(),
		"no record":       hostileCacheTar([2]string{"a-0/layer.tar", ""}),
		"record alone":    hostileCacheTar([2]string{"a-0/record", record}),
		"record no json":  hostileCacheTar([2]string{"a-0/record", "{"}, [2]string{"a-0/layer.tar", ""}),
		"record empty":    hostileCacheTar([2]string{"a-0/record", "{}"}, [2]string{"a-0/layer.tar", ""}),
		"record mode":     hostileCacheTar([2]string{"a-0/record", `{"id":"a","mode":65535}`}, [2]string{"a-0/layer.tar", ""}),
		"record long":     hostileCacheTar([2]string{"a-0/record", `{"id":"` + strings.Repeat("a", maxCacheRecord) + `"}`}),
		"name up":         hostileCacheTar([2]string{"../record", record}, [2]string{"../layer.tar", escape.String()}),
		"number":          hostileCacheTar([2]string{"a-99999999/record", record}, [2]string{"a-99999999/layer.tar", ""}),
		"other data":      hostileCacheTar([2]string{"a-0/record", record}, [2]string{"b-0/layer.tar", ""}),
		"through symlink": hostileCacheTar([2]string{"a-0/record", record}, [2]string{"a-0/layer.tar", escape.String()}),
		"layer cut off":   hostileCacheTar([2]string{"a-0/record", record}, [2]string{"a-0/layer.tar", escape.String()[:700]}),
	} {
		t.Run(name, func(t *testing.T) {
			if list, err := s.ImportCacheDirs(t.Context(), bytes.NewReader(data)); err == nil {
				t.Errorf("imported %v", list)
			}
			if list, _ := s.CacheDirs(t.Context()); len(list) > 0 {
				t.Errorf("left %v", list)
			}
		})
	}
	if _, err := os.Lstat("/tmp/escaped"); err == nil {
		t.Error("a file was written outside")
	}
}
