package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nacre/internal/event"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"golang.org/x/sys/unix"
)

// addContainer records a container of an image, with a folder of one file.
func addContainer(t testing.TB, s *store.Store, digit, name string, img store.Image) (store.ContainerRow, error) {
	t.Helper()
	dir, remove, err := s.TempDir("container")
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	row := store.ContainerRow{ID: strings.Repeat(digit, 64), Name: name, Image: img.Target.Digest, Created: time.Unix(1000, 0)}
	return row, s.AddContainer(t.Context(), row, dir)
}

func TestContainerRows(t *testing.T) {
	s := openAt(t, t.TempDir(), store.Options{})
	img := put(t, s, 1, []string{"web:1"}, made(t, s, nil, "a"))
	one, err := addContainer(t, s, "a", "one", img)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.ContainerDir(one.ID), "lock")); err != nil {
		t.Error(err)
	}
	taken := (*store.NameTakenError)(nil)
	if _, err := addContainer(t, s, "b", "one", img); !errors.As(err, &taken) || taken.ID != one.ID {
		t.Errorf("second container of the name: %v", err)
	}
	if _, err := os.Stat(s.ContainerDir(strings.Repeat("b", 64))); err == nil {
		t.Error("a container that was refused left a folder")
	}
	two, err := addContainer(t, s, "b", "two", img)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{"one": 1, "a": 1, one.ID: 1, "": 0, "aab": 0, "ONE": 0} {
		rows, err := s.ContainersLike(t.Context(), text)
		if err != nil || len(rows) != want {
			t.Errorf("like %q: %v, %v, want %d", text, rows, err, want)
		}
	}
	if err := s.RenameContainer(t.Context(), two.ID, "one"); !errors.As(err, &taken) {
		t.Errorf("rename to a name that is taken: %v", err)
	}
	if err := s.RenameContainer(t.Context(), strings.Repeat("c", 64), "x"); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("rename of none: %v", err)
	}
	if err := s.DoomContainer(t.Context(), two.ID); err != nil {
		t.Error(err)
	}
	if rows, err := s.DoomedContainers(t.Context()); err != nil || len(rows) != 1 || rows[0].Name != "two" {
		t.Errorf("doomed: %v, %v", rows, err)
	}
	if err := s.DropContainer(t.Context(), two.ID); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.ContainerDir(two.ID)); err == nil {
		t.Error("the folder of a dropped container is there")
	}
	wantSound(t, s)
}

func TestContainerHoldsImage(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, root, store.Options{})
	img := put(t, s, 1, []string{"web:1"}, made(t, s, nil, "a"))
	row, err := addContainer(t, s, "a", "one", img)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // with its leases
		t.Fatal(err)
	}
	s = openAt(t, root, store.Options{})
	remove := func(name string, force bool, want string) {
		t.Helper()
		_, _, err := s.Remove(t.Context(), name, store.RemoveOptions{Force: force})
		if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), want) || store.UsedBy(err) != "one" {
			t.Errorf("remove %s: %v (by %q), want %q", name, err, store.UsedBy(err), want)
		}
	}
	id := img.ID.Encoded()
	remove("web:1", false, `conflict: unable to remove repository reference "web:1" (must force) - container aaaaaaaaaaaa is using its referenced image `+id[:12])
	remove(id, false, "(must be forced) - image is being used by stopped container aaaaaaaaaaaa")
	lock, err := store.LockContainer(s.ContainerDir(row.ID))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.LockContainer(s.ContainerDir(row.ID)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("second lock: %v", err)
	}
	remove(id, true, "(cannot be forced) - image is being used by running container aaaaaaaaaaaa")
	lock.Close()
	if store.ContainerLocked(s.ContainerDir(row.ID)) {
		t.Error("locked by nobody")
	}
	r, err := s.Prune(t.Context(), store.PruneOptions{Images: store.PruneAll})
	if err != nil || len(r.Images)+len(r.Layers) > 0 {
		t.Errorf("prune took %v, %v", r, err)
	}
	// By force the image goes, and what the container runs on stays.
	if _, _, err := s.Remove(t.Context(), id, store.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if r, err = s.Prune(t.Context(), store.PruneOptions{Images: store.PruneAll}); err != nil || len(r.Layers) > 0 {
		t.Errorf("prune took %v, %v", r.Layers, err)
	}
	wantSound(t, s)
	if err := s.DropContainer(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	if r, err = s.Prune(t.Context(), store.PruneOptions{Images: store.PruneAll}); err != nil || len(r.Layers) != 1 {
		t.Errorf("prune took %v, %v, want the layer", r.Layers, err)
	}
	wantSound(t, s)
}

// TestContainersChecked breaks what there is of containers in each way.
func TestContainersChecked(t *testing.T) {
	s := openAt(t, t.TempDir(), store.Options{})
	img := put(t, s, 1, []string{"web:1"}, made(t, s, nil, "a"))
	lost, err := addContainer(t, s, "a", "lost", img)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := addContainer(t, s, "b", "sound", img); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(s.ContainerDir(lost.ID))
	stray := s.ContainerDir(strings.Repeat("c", 64))
	if err := os.Mkdir(stray, 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := s.Check(t.Context(), false, event.Discard)
	if err != nil || r.Containers != 2 || len(r.Problems) != 1 || r.Leftovers != 1 || !strings.Contains(r.Problems[0].String(), "container lost: its folder is missing") {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = s.Check(t.Context(), true, event.Discard); err != nil || !r.Clean() {
		t.Errorf("repair: %+v, %v", r, err)
	}
	if _, err := os.Stat(stray); err == nil {
		t.Error("the folder without a record is there")
	}
	wantSound(t, s)
}

// TestContainersSalvaged loses the database.
func TestContainersSalvaged(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, root, store.Options{})
	img := put(t, s, 1, []string{"web:1"}, made(t, s, nil, "a"))
	row, err := addContainer(t, s, "a", "web", img)
	if err != nil {
		t.Fatal(err)
	}
	asked := `{"image":"web:1","target":"` + img.Target.Digest.String() + `"}`
	if err := os.WriteFile(filepath.Join(s.ContainerDir(row.ID), "container.json"), []byte(asked), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nacre.db-wal", "nacre.db-shm"} {
		os.Remove(filepath.Join(root, name))
	}
	if err := os.WriteFile(filepath.Join(root, "nacre.db"), []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, root, store.Options{Salvage: true})
	rows, err := s.Containers(t.Context())
	if err != nil || len(rows) != 1 || rows[0].ID != row.ID || rows[0].Name != row.ID || rows[0].Image != img.Target.Digest {
		t.Errorf("%+v, %v", rows, err)
	}
}
