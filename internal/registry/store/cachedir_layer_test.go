package store

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"nacre/internal/layer"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// packed is a cache directory of one file as a layer.
func packed(t *testing.T, s *Store, o CacheDirOptions, text string) (CacheDirOptions, digest.Digest) {
	t.Helper()
	dir, release := use(t, s, o)
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	release()
	l, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, info, err := s.CacheDirLayer(t.Context(), l, cacheDirName(o.ID, o.Variant, 0))
	if err != nil {
		t.Fatal(err)
	}
	return got, info.DiffID
}

func TestCacheDirLayer(t *testing.T) {
	s := openCacheTest(t, Options{})
	o := CacheDirOptions{ID: "go", Variant: "uid=7", Mode: 0o750, UID: 7}
	got, d := packed(t, s, o, "one")
	if got.ID != "go" || got.Variant != "uid=7" || got.Mode != 0o750 || got.UID != 7 {
		t.Errorf("described as %+v", got)
	}
	again, _, err := s.CacheDirLayer(t.Context(), nil, cacheDirName("go", "uid=7", 0))
	if err != nil || again.ID != "go" {
		t.Fatal(again, err)
	}
	list, err := s.FindCacheDirs(t.Context(), func(id, variant string) bool { return id == "go" && variant == "uid=7" })
	if err != nil || len(list) != 1 || list[0].ID != "go" {
		t.Errorf("found %v, %v", list, err)
	}
	if list, _ := s.FindCacheDirs(t.Context(), func(id, variant string) bool { return variant == "" }); len(list) > 0 {
		t.Errorf("found %v", list)
	}
	_, release := use(t, s, CacheDirOptions{ID: "empty"})
	release()
	for _, name := range []string{cacheDirName("empty", "", 0), cacheDirName("absent", "", 0)} {
		if _, _, err := s.CacheDirLayer(t.Context(), nil, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error %v", name, err)
		}
	}

	contents := func() (digest.Digest, error) { return d, nil }
	fill := func(o CacheDirOptions) bool {
		t.Helper()
		ok, err := s.FillCacheDir(t.Context(), o, contents)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if fill(o) {
		t.Error("one that has files was filled")
	}
	seen := false
	s.testOnlyPoint = func(what string) {
		if what == "cache directory filled" { // whoever is killed here leaves the cache as it was
			_, err := os.Stat(s.path("caches", cacheDirName("new", "", 0)))
			seen = errors.Is(err, fs.ErrNotExist)
		}
	}
	if !fill(CacheDirOptions{ID: "new", Mode: 0o711, GID: 3}) || !seen {
		t.Error("a new one was not filled, or half of it was to be seen")
	}
	s.testOnlyPoint = nil
	dir, _ := use(t, s, CacheDirOptions{ID: "new"})
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Mode&0o7777 != 0o711 || st.Gid != 3 {
		t.Errorf("mode %o, group %d, %v", st.Mode, st.Gid, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "file")); string(text) != "one" {
		t.Errorf("%q, %v", text, err)
	}
	if !fill(CacheDirOptions{ID: "empty"}) {
		t.Error("an empty one was not filled")
	}
	_, release = use(t, s, CacheDirOptions{ID: "used"})
	if fill(CacheDirOptions{ID: "used"}) {
		t.Error("one that is in use was filled")
	}
	release()
	if _, err := s.Collect(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func TestCacheDirFillRefused(t *testing.T) {
	s := openCacheTest(t, Options{})
	no := errors.New("no")
	if ok, err := s.FillCacheDir(t.Context(), CacheDirOptions{ID: "a"}, func() (digest.Digest, error) { return "", no }); ok || !errors.Is(err, no) {
		t.Errorf("%v, %v", ok, err)
	}
	for name, h := range map[string]tar.Header{
		"device":   {Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 8},
		"terminal": {Name: "tty", Typeflag: tar.TypeChar, Devmajor: 5},
		"whiteout": {Name: ".wh.x", Typeflag: tar.TypeReg},
		"opaque":   {Name: "d/.wh..wh..opq", Typeflag: tar.TypeReg},
	} {
		t.Run(name, func(t *testing.T) {
			var buf bytes.Buffer
			tw := tar.NewWriter(&buf)
			tw.WriteHeader(&tar.Header{Name: "fine", Typeflag: tar.TypeReg})
			tw.WriteHeader(&h)
			tw.Close()
			info, err := s.MakeLayer(t.Context(), nil, func(dir string) (layer.Info, error) {
				return layer.Ingest(context.Background(), dir, &buf, layer.IngestOptions{})
			})
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := s.FillCacheDir(t.Context(), CacheDirOptions{ID: "a"}, func() (digest.Digest, error) { return info.DiffID, nil }); ok || err == nil {
				t.Errorf("%v, %v", ok, err)
			}
			if list, _ := s.CacheDirs(t.Context()); len(list) > 0 {
				t.Errorf("left %v", list)
			}
		})
	}
}
