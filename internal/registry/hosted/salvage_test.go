package hosted_test

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"
)

// TestSalvage: with a database that is damaged repositories keep what can still be read of them.
func TestSalvage(t *testing.T) {
	f := open(t, hosted.Options{})
	root := f.s.Root()
	img, secret := registrytest.Hello("a", gzipLayer), registrytest.Hello("untagged", gzipLayer)
	f.push("app", "1", img)
	f.push("secret", "", secret)
	if err := f.s.Close(); err != nil {
		t.Fatal(err)
	}
	damage(t, filepath.Join(root, "nacre.db"))
	s, err := store.Open(t.Context(), root, store.Options{Salvage: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wantSound(t, s)
	g := &fixture{t: t, s: s, r: hosted.New(s, hosted.Options{Clock: f.clock})}
	g.wantShown("app", img, len(img.Blobs))
	g.wantShown("secret", secret, len(secret.Blobs))
	g.wantShown("app", registrytest.Image{Blobs: secret.Blobs[3:]}, 0)
	if d, err := g.r.Resolve(t.Context(), ref("app", "1")); err != nil || d.Digest != img.Desc().Digest {
		t.Errorf("app:1 is %s, %v", d.Digest, err)
	}
	if _, err := g.r.Resolve(t.Context(), registry.Ref{Repo: "secret", Digest: secret.Desc().Digest}); err != nil {
		t.Error(err)
	}
	for img, err := range s.Images(t.Context()) {
		if err != nil || img.Dangling {
			t.Errorf("image %s %v, %v", img.Target.Digest, img.Names, err)
		}
	}
}

// damage overwrites a page of the database that has nothing to do with repositories.
func damage(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	var page, size int64
	if _, err := db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow("SELECT rootpage, (SELECT * FROM pragma_page_size) FROM sqlite_schema WHERE name = 'cache'").Scan(&page, &size); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(bytes.Repeat([]byte{0xa5}, int(size)), (page-1)*size); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}
