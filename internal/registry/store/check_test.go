package store_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nacre/internal/cache"
	"nacre/internal/event"
	"nacre/internal/layer"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// stocked is a store with one of everything.
type stocked struct {
	root                     string
	built, pulled            store.Image
	layer, pulledLayer, tree digest.Digest // uncompressed only; of the pulled image; unpacked
	pulledBlob               digest.Digest
	pulledImage              registrytest.Image
}

// copy returns a copy of it that may be damaged.
func (k stocked) copy(t *testing.T) stocked {
	t.Helper()
	from := k.root
	k.root = t.TempDir()
	if err := os.CopyFS(k.root, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return k
}

func stock(t *testing.T) stocked {
	t.Helper()
	k := stocked{root: t.TempDir()}
	s, err := store.Open(t.Context(), k.root, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := made(t, s, nil, "a"), made(t, s, nil, "b")
	k.built = put(t, s, 1, []string{"built:1", "built:2", "built:spare"}, a, b)
	k.layer, k.tree = a.DiffID, b.DiffID
	k.pulledImage = registrytest.Hello("pulled", gzipLayer)
	registrytest.Put(t, s, registrytest.Ref("pulled"), k.pulledImage)
	if k.pulled, err = s.Lookup(t.Context(), "pulled"); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := s.Config(t.Context(), k.pulledImage.Blobs[2].Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	k.pulledLayer, k.pulledBlob = cfg.RootFS.DiffIDs[1], k.pulledImage.Blobs[1].Digest
	if err := s.Cache().Put(t.Context(), record("slot", "a"), output(a)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tree(t.Context(), k.tree); err != nil {
		t.Fatal(err)
	}
	wantSound(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k stocked) blob(d digest.Digest) string {
	return filepath.Join(k.root, "blobs/sha256", d.Encoded())
}
func (k stocked) file(d digest.Digest, name string) string {
	return filepath.Join(k.root, "layers", d.Encoded(), name)
}

// sql changes the database behind the store's back.
func (k stocked) sql(t *testing.T, query string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(k.root, "nacre.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r, err := db.Exec(query, args...)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s: %d rows, %v", query, n, err)
	}
}

// flip changes one byte in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0x40
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, st.Size()-1); err != nil {
		t.Fatal(err)
	}
}

// TestCheckFindsAndRepairs damages every kind of thing. After a repair what was
// right is there, what was wrong is not, and nothing is found any more.
func TestCheckFindsAndRepairs(t *testing.T) {
	const built, pulled = "built:1", "pulled"
	stock := stock(t)
	for _, c := range []struct {
		title  string
		damage func(*testing.T, stocked)
		want   string // in one of the problems
		lost   string // the image that cannot be saved, and no other
		stays  string // what a second check still finds, because no repair can help
	}{
		{title: "layer's tar", damage: func(t *testing.T, k stocked) { flip(t, k.file(k.layer, "layer.tar")) }, want: "the tar cannot be read", lost: built},
		{title: "layer's tar cut short", damage: func(t *testing.T, k stocked) { truncate(t, k.file(k.layer, "layer.tar")) }, want: "the tar", lost: built},
		{title: "layer's tar missing", damage: func(t *testing.T, k stocked) { remove(t, k.file(k.layer, "layer.tar")) }, want: "the tar is missing", lost: built},
		{title: "layer missing", damage: func(t *testing.T, k stocked) { remove(t, k.file(k.layer, "")) }, want: "the tar is missing", lost: built},
		{title: "layer's index", damage: func(t *testing.T, k stocked) { flip(t, k.file(k.layer, "layer.erofs")) }, want: "the index does not match the tar"},
		{title: "layer's index missing", damage: func(t *testing.T, k stocked) { remove(t, k.file(k.layer, "layer.erofs")) }, want: "the index does not match the tar"},
		{title: "pulled layer's tar", damage: func(t *testing.T, k stocked) { flip(t, k.file(k.pulledLayer, "layer.tar")) }, want: "made again from its compressed form"},
		{title: "pulled layer missing", damage: func(t *testing.T, k stocked) { remove(t, k.file(k.pulledLayer, "")) }, want: "made again from its compressed form"},
		{title: "compressed form", damage: func(t *testing.T, k stocked) { flip(t, k.blob(k.pulledBlob)) }, want: "does not match the digest", stays: "pull or load it again"},
		{title: "config", damage: func(t *testing.T, k stocked) { flip(t, k.blob(k.built.ID)) }, want: "does not match the digest", lost: built},
		{title: "manifest", damage: func(t *testing.T, k stocked) { flip(t, k.blob(k.built.Target.Digest)) }, want: "does not match the digest", lost: built},
		{title: "manifest missing", damage: func(t *testing.T, k stocked) { remove(t, k.blob(k.pulled.Target.Digest)) }, want: "the file is missing", lost: pulled},
		{title: "tree", damage: func(t *testing.T, k stocked) { flip(t, filepath.Join(k.root, "trees", k.tree.Encoded(), "b")) }, want: "has other content"},
		{title: "tree with a file missing", damage: func(t *testing.T, k stocked) { remove(t, filepath.Join(k.root, "trees", k.tree.Encoded(), "b")) }, want: "is missing"},
		{title: "blob's record lost", damage: func(t *testing.T, k stocked) { k.sql(t, "DELETE FROM blob WHERE digest = ?", k.built.ID) }, want: "not on record"},
		{title: "manifest's record lost", damage: func(t *testing.T, k stocked) { k.sql(t, "DELETE FROM blob WHERE digest = ?", k.pulled.Target.Digest) }, want: "not on record"},
		{title: "blob's size", damage: func(t *testing.T, k stocked) {
			k.sql(t, "UPDATE blob SET size = size + 1 WHERE digest = ?", k.built.ID)
		}, want: "wrong size"},
		{title: "layer's record lost", damage: func(t *testing.T, k stocked) { k.sql(t, "DELETE FROM layer WHERE diffid = ?", k.layer) }, want: "not on record"},
		{title: "layer's record", damage: func(t *testing.T, k stocked) {
			k.sql(t, "UPDATE layer SET content = 'x', files = 7 WHERE diffid = ?", k.layer)
		}, want: "record does not match the tar"},
		{title: "edges lost", damage: func(t *testing.T, k stocked) { k.sql(t, "DELETE FROM edge") }, want: "refers to is wrong"},
		{title: "edge too many", damage: func(t *testing.T, k stocked) { k.sql(t, "INSERT INTO edge VALUES (?, 'x')", k.built.Target.Digest) }, want: "refers to is wrong"},
		{title: "image's record", damage: func(t *testing.T, k stocked) {
			k.sql(t, "UPDATE image SET bytes = 1, created = 'x' WHERE digest = ?", k.built.Target.Digest)
		}, want: "record does not match the manifest"},
		{title: "image's record lost", damage: func(t *testing.T, k stocked) { k.sql(t, "DELETE FROM image WHERE digest = ?", k.pulled.Target.Digest) }, want: "which is no image here"},
		{title: "name of nothing", damage: func(t *testing.T, k stocked) {
			k.sql(t, "INSERT INTO name (repo, tag, digest, target, added) VALUES ('docker.io/library/x', 'y', '', 'sha256:z', 1)")
		}, want: "which is no image here"},
		{title: "name nobody can type", damage: func(t *testing.T, k stocked) {
			k.sql(t, "INSERT INTO name (repo, tag, digest, target, added) VALUES ('A B', '', '', ?, 1)", k.built.Target.Digest)
		}, want: "it is no name"},
		{title: "cache record's key", damage: func(t *testing.T, k stocked) { k.sql(t, "UPDATE cache SET key = x'00'") }, want: "cache record"},
		{title: "cache record's fields", damage: func(t *testing.T, k stocked) { k.sql(t, "UPDATE cache SET fields = x'00'") }, want: "it is damaged"},
		{title: "cache record's layer", damage: func(t *testing.T, k stocked) { k.sql(t, "UPDATE cache SET layer = 'sha256:x'") }, want: "missing or damaged"},
		{title: "index of the database", damage: func(t *testing.T, k stocked) { breakSQLIndex(t, k) }, want: "database"},
	} {
		t.Run(c.title, func(t *testing.T) {
			t.Parallel()
			k := stock.copy(t)
			c.damage(t, k)
			s := openAt(t, k.root, store.Options{})
			found := check(t, s, false)
			if !contains(found, c.want) {
				t.Errorf("found %q, want %q", found.Problems, c.want)
			}
			if again := check(t, s, false); len(again.Problems) != len(found.Problems) {
				t.Errorf("a check changed what is found: %q, then %q", found.Problems, again.Problems)
			}
			if repaired := check(t, s, true); repaired.Clean() != (c.stays == "") {
				t.Errorf("after repair clean %v: %q", repaired.Clean(), repaired.Problems)
			}
			left := check(t, s, false)
			if c.stays == "" && len(left.Problems) > 0 || c.stays != "" && !contains(left, c.stays) {
				t.Errorf("after repair: %q", left.Problems)
			}
			for _, name := range []string{built, "built:2", pulled} {
				img, err := s.Lookup(t.Context(), name)
				if lost := c.lost != "" && strings.HasPrefix(name, c.lost[:5]); (err != nil) != lost {
					t.Errorf("%s: %v, lost: %v", name, err, lost)
				}
				if err == nil {
					wantUsable(t, s, img)
				}
			}
		})
	}
}

// breakSQLIndex makes an index of the database disagree with its table.
func breakSQLIndex(t *testing.T, k stocked) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(k.root, "nacre.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, q := range []string{
		"PRAGMA writable_schema = ON",
		"CREATE TABLE kept AS SELECT * FROM sqlite_schema WHERE name = 'name_target'",
		"DELETE FROM sqlite_schema WHERE name = 'name_target'",
		"PRAGMA writable_schema = RESET",
		"DELETE FROM name WHERE tag = 'spare'", // the index hidden, it keeps its entry
		"PRAGMA writable_schema = ON",
		"INSERT INTO sqlite_schema SELECT * FROM kept",
		"PRAGMA writable_schema = RESET",
		"DROP TABLE kept",
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

func check(t *testing.T, s *store.Store, repair bool) store.CheckReport {
	t.Helper()
	r, err := s.Check(t.Context(), repair, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func contains(r store.CheckReport, text string) bool {
	for _, p := range r.Problems {
		if strings.Contains(p.String(), text) {
			return true
		}
	}
	return false
}

// wantUsable reads all that running an image takes.
func wantUsable(t *testing.T, s *store.Store, img store.Image) {
	t.Helper()
	m, _, err := s.Manifest(t.Context(), img, nil)
	if err != nil {
		t.Error(err)
		return
	}
	cfg, _, err := s.Config(t.Context(), m.Config)
	if err != nil {
		t.Error(err)
	}
	for _, d := range cfg.RootFS.DiffIDs {
		l, err := s.Layer(t.Context(), d)
		if err != nil {
			t.Error(err)
			continue
		}
		for st, err := range l.All() {
			if err != nil {
				t.Errorf("layer %s: %v: %v", d, st, err)
			}
		}
		if _, err := registrytest.Get(t.Context(), s, "", image0(d)); err != nil {
			t.Errorf("layer %s: %v", d, err)
		}
	}
}

// TestSalvage: with a database that is garbage, images come back from the files.
// With one that is damaged in a place, names and cache do too.
func TestSalvage(t *testing.T) {
	for _, c := range []struct {
		title  string
		damage func(t *testing.T, path string)
		names  bool
	}{
		{"garbage", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("garbage ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"a page of table layer", func(t *testing.T, path string) {
			db, err := sql.Open("sqlite", "file:"+path)
			if err != nil {
				t.Fatal(err)
			}
			var page int64
			if err := db.QueryRow("SELECT rootpage FROM sqlite_schema WHERE name = 'layer'").Scan(&page); err != nil {
				t.Fatal(err)
			}
			db.Close()
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte(strings.Repeat("x", 4096)), (page-1)*4096); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(c.title, func(t *testing.T) {
			k := stock(t)
			noted := record("slot", "noted")
			noted.Note = []byte("note")
			s := openAt(t, k.root, store.Options{})
			if err := s.Cache().Put(t.Context(), noted, output(layer.Info{DiffID: k.layer})); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(k.root, "nacre.db")
			db, err := sql.Open("sqlite", "file:"+path) // its last Close empties the log
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
				t.Fatal(err)
			}
			db.Close()
			c.damage(t, path)
			wantDamaged(t, k.root)
			s = openAt(t, k.root, store.Options{Salvage: true})
			check(t, s, true)
			if c.names {
				wantNotes(t, s, []cache.Record{noted}, true)
			}
			if left := check(t, s, false); len(left.Problems) > 0 {
				t.Errorf("after salvage and repair: %q", left.Problems)
			}
			for _, want := range []store.Image{k.built, k.pulled} {
				img, err := s.Lookup(t.Context(), want.ID.String())
				if err != nil {
					t.Errorf("%s: %v", want.ID, err)
					continue
				}
				wantUsable(t, s, img)
				if c.names && len(img.Names) != len(want.Names) {
					t.Errorf("names %v, want %v", img.Names, want.Names)
				}
			}
			_, ok, err := s.Cache().Get(t.Context(), record("slot", "a").Key)
			if err != nil || ok != c.names {
				t.Errorf("cache: %v, %v", ok, err)
			}
		})
	}
}
