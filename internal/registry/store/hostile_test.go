package store_test

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"golang.org/x/sys/unix"
)

func mount(t *testing.T, source, target, fstype string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		t.Fatalf("mount %s on %s: %v (these tests run as root)", fstype, target, err)
	}
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}

// fill takes what is left of the disk.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func noise(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return string(b)
}

func wantFull(t *testing.T, what, root string, err error) {
	t.Helper()
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "no space left in "+root) {
		t.Errorf("%s on a full disk: %v", what, err)
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=8m")
	root := filepath.Join(dir, "store")
	s := openAt(t, root, store.Options{})
	keep, err := makeLayer(t, s, nil, "keep", noise(500_000))
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, 1, []string{"keep"}, keep)
	big, err := makeLayer(t, s, nil, "big", noise(2_000_000))
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, 2, []string{"big"}, big)
	before := entries(t, root)

	// A layer that does not fit.
	for {
		if _, err = makeLayer(t, s, nil, "too big", noise(8_000_000)); err != nil {
			break
		}
	}
	wantFull(t, "layer", root, err)
	b := registrytest.NewBlob("application/octet-stream", []byte(noise(8_000_000)))
	wantFull(t, "blob", root, registrytest.Push(t.Context(), s, "", b))
	zip := registrytest.NewBlob(gzipLayer, registrytest.Compress(gzipLayer, registrytest.Tar("z", noise(8_000_000))))
	wantFull(t, "pull", root, registrytest.Push(t.Context(), s, "", zip))
	if after := entries(t, root); after != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}

	// Not a byte is left.
	free := fill(t, dir)
	_, err = s.PutImage(t.Context(), nil, assemble(t, config(9, keep), keep), refs("more"))
	wantFull(t, "image", root, err)
	img, err := s.Lookup(t.Context(), "keep")
	if err != nil {
		t.Fatal(err)
	}
	wantUsable(t, s, img)
	if err := s.Close(); err != nil {
		t.Errorf("close on a full disk: %v", err)
	}
	s = openAt(t, root, store.Options{})
	if _, err := s.Lookup(t.Context(), "keep"); err != nil {
		t.Errorf("a store opened on a full disk: %v", err)
	}

	// Removing frees what it should, with nothing to begin with.
	if _, _, err := s.Remove(t.Context(), "big", store.RemoveOptions{}); err != nil {
		t.Fatalf("remove on a full disk: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, root, store.Options{})
	if _, err := makeLayer(t, s, nil, "fits now", noise(1_000_000)); err != nil {
		t.Errorf("after removing: %v", err)
	}
	wantSound(t, s)
	free()
	put(t, s, 9, []string{"more"}, keep)
	wantSound(t, s)
}

// entries lists the store, but for the database and its own bookkeeping.
func entries(t *testing.T, root string) string {
	t.Helper()
	var list []string
	for _, dir := range []string{"blobs/sha256", "layers", "trees", "tmp"} {
		names, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			list = append(list, dir+"/"+n.Name())
		}
	}
	return strings.Join(list, "\n")
}

// TestFullFromTheStart: a disk that cannot even hold an empty store.
func TestFullFromTheStart(t *testing.T) {
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=64k")
	free := fill(t, dir)
	root := filepath.Join(dir, "store")
	_, err := store.Open(t.Context(), root, store.Options{})
	wantFull(t, "first open", root, err)
	free()
	mount(t, "tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=4m")
	s := openAt(t, root, store.Options{})
	put(t, s, 1, []string{"a"}, made(t, s, nil, "a"))
	wantSound(t, s)
}

func TestReadOnly(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent")
	if _, err := store.Open(t.Context(), absent, store.Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a store that is not there: %v", err)
	}
	if _, err := os.Stat(absent); err == nil {
		t.Error("a store was made")
	}
	k := stock(t)
	for _, c := range []struct {
		title string
		mount bool
	}{{"option", false}, {"mount", true}} {
		t.Run(c.title, func(t *testing.T) {
			root := k.copy(t).root
			if c.mount {
				mount(t, root, root, "", unix.MS_BIND, "")
				mount(t, "", root, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
				if s, err := store.Open(t.Context(), root, store.Options{}); err == nil {
					_, _, err = s.Remove(t.Context(), "built:1", store.RemoveOptions{})
					if !errors.Is(err, registry.ErrReadOnly) {
						t.Errorf("remove: %v", err)
					}
					_, err = s.MakeLayer(t.Context(), nil, func(string) (layer.Info, error) { return layer.Info{}, nil })
					if !errors.Is(err, registry.ErrReadOnly) {
						t.Errorf("make layer: %v", err)
					}
					s.Close()
				}
			}
			s := openAt(t, root, store.Options{ReadOnly: true})
			img, err := s.Lookup(t.Context(), "built:1")
			if err != nil {
				t.Fatal(err)
			}
			wantUsable(t, s, img)
			wantSound(t, s)
			if _, ok, err := s.Cache().Get(t.Context(), record("slot", "a").Key); !ok || err != nil {
				t.Errorf("cache: %v, %v", ok, err)
			}
			if ok, err := s.Has(t.Context(), "", img.Target); !ok || err != nil {
				t.Errorf("has: %v, %v", ok, err)
			}
			_, _, removeErr := s.Remove(t.Context(), "built:1", store.RemoveOptions{})
			_, pruneErr := s.Prune(t.Context(), store.PruneOptions{})
			_, leaseErr := s.Lease(t.Context())
			_, putErr := s.PutImage(t.Context(), nil, assemble(t, config(3)), refs("x"))
			_, createErr := s.Create(t.Context(), "", registrytest.NewBlob("x/y", []byte("z")).Descriptor)
			_, checkErr := s.Check(t.Context(), true, nil)
			for what, err := range map[string]error{
				"remove": removeErr, "prune": pruneErr, "lease": leaseErr, "put": putErr, "create": createErr, "repair": checkErr,
				"tag":    s.Tag(t.Context(), registrytest.Ref("x"), img.Target),
				"untag":  s.Untag(t.Context(), registrytest.Ref("built:1")),
				"delete": s.Delete(t.Context(), "", img.Target.Digest),
				"cache":  s.Cache().Put(t.Context(), record("slot", "b"), output(layer.Info{DiffID: k.layer})),
			} {
				if !errors.Is(err, registry.ErrReadOnly) {
					t.Errorf("%s: %v, want ErrReadOnly", what, err)
				}
			}
		})
	}
}

// TestForeignRoot: another user's store cannot be opened, and the error says which.
func TestForeignRoot(t *testing.T) {
	bin, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "foreign") // t.TempDir is below a directory others cannot enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	exe := filepath.Join(dir, "worker")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(exe, bin, 0o755)); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(dir, "mine")
	openAt(t, mine, store.Options{})
	for _, root := range []string{mine, filepath.Join(dir, "new"), exe} {
		cmd := exec.Command(exe)
		cmd.Args = []string{"worker", root}
		cmd.Env = []string{"STORE_TEST_WORKER=open"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		text := stderr.String()
		if err == nil || !strings.Contains(text, root) || (!strings.Contains(text, "permission denied") && root != exe) || strings.Contains(text, "panic") {
			t.Errorf("open %s: %v: %q", root, err, text)
		}
	}
}

func TestNewerFormat(t *testing.T) {
	k := stock(t)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(k.root, "nacre.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, o := range []store.Options{{}, {ReadOnly: true}, {Salvage: true}} {
		_, err := store.Open(t.Context(), k.root, o)
		if !errors.Is(err, store.ErrVersion) || !strings.Contains(err.Error(), "format 99") || !strings.Contains(err.Error(), "newer nacre") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestPowerLoss: what another boot of the machine left unsynced is verified before it is used.
func TestPowerLoss(t *testing.T) {
	k := stock(t)
	lost := func(t *testing.T, damage ...string) *store.Store {
		c := k.copy(t)
		c.sql(t, "UPDATE layer SET boot = 'before', tree = 'before'")
		c.sql(t, "UPDATE blob SET boot = 'before'")
		for _, path := range damage {
			flip(t, strings.Replace(path, k.root, c.root, 1))
		}
		return openAt(t, c.root, store.Options{})
	}
	t.Run("nothing torn", func(t *testing.T) {
		s := lost(t)
		for _, name := range []string{"built:1", "pulled"} {
			img, err := s.Lookup(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			wantUsable(t, s, img)
		}
		if _, ok, err := s.Cache().Get(t.Context(), record("slot", "a").Key); !ok || err != nil {
			t.Errorf("cache: %v, %v", ok, err)
		}
		wantSound(t, s)
	})
	t.Run("a layer", func(t *testing.T) {
		s := lost(t, k.file(k.layer, "layer.tar"))
		if _, ok, err := s.Cache().Get(t.Context(), record("slot", "a").Key); ok || err != nil {
			t.Errorf("cache: %v, %v; want a miss", ok, err)
		}
		if _, err := s.Layer(t.Context(), k.layer); !errors.Is(err, registry.ErrAbsent) {
			t.Errorf("layer: %v, want ErrAbsent", err)
		}
		// Made again, all is well.
		made(t, s, nil, "a")
		img, err := s.Lookup(t.Context(), "built:1")
		if err != nil {
			t.Fatal(err)
		}
		wantUsable(t, s, img)
		wantSound(t, s)
	})
	t.Run("a layer that was pulled", func(t *testing.T) {
		s := lost(t, k.file(k.pulledLayer, "layer.tar"))
		img, err := s.Lookup(t.Context(), "pulled")
		if err != nil {
			t.Fatal(err)
		}
		wantUsable(t, s, img)
		wantSound(t, s)
	})
	t.Run("an index", func(t *testing.T) {
		s := lost(t, k.file(k.layer, "layer.erofs"))
		if _, err := s.Layer(t.Context(), k.layer); err != nil {
			t.Error(err)
		}
		wantSound(t, s)
	})
	t.Run("a compressed form", func(t *testing.T) {
		s := lost(t, k.blob(k.pulledBlob))
		b := k.pulledImage.Blobs[1]
		if ok, err := s.Has(t.Context(), "", b.Descriptor); ok || err != nil {
			t.Errorf("has: %v, %v", ok, err)
		}
		registrytest.Put(t, s, registrytest.Ref("pulled"), k.pulledImage) // pulled again
		wantSound(t, s)
	})
	t.Run("a tree", func(t *testing.T) {
		s := lost(t, filepath.Join(k.root, "trees", k.tree.Encoded(), "b"))
		dir, err := s.Tree(t.Context(), k.tree)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "b")); err != nil || string(data) != "content of b" {
			t.Errorf("%q, %v", data, err)
		}
		wantSound(t, s)
	})
}
