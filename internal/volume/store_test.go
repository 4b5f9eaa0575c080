package volume

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// folder is a Store of nothing but a folder.
type folder struct {
	root string
	n    *atomic.Int64
}

func newFolder(t testing.TB, root string) folder {
	t.Helper()
	for _, d := range []string{"tmp", "containers"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return folder{root, new(atomic.Int64)}
}

func (f folder) Root() string { return f.root }

func (f folder) TempDir(prefix string) (string, func(), error) {
	dir := filepath.Join(f.root, "tmp", fmt.Sprintf("%s-%d-%d", prefix, os.Getpid(), f.n.Add(1)))
	return dir, func() { os.RemoveAll(dir) }, os.Mkdir(dir, 0o700)
}

func newVolumes(t testing.TB) *Volumes {
	t.Helper()
	return Open(newFolder(t, t.TempDir()))
}

// makeContainer gives a container its folder.
func (v *Volumes) makeContainer(t testing.TB, id string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(v.store.Root(), "containers", id), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestCreate(t *testing.T) {
	v := newVolumes(t)
	made, err := v.Create(t.Context(), CreateOptions{Name: "data", Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	again, err := v.Create(t.Context(), CreateOptions{Name: "data", Labels: map[string]string{"c": "d"}})
	if err != nil || !again.Created.Equal(made.Created) || again.Labels["a"] != "b" {
		t.Errorf("made again: %+v, %v", again, err)
	}
	if _, err := v.Create(t.Context(), CreateOptions{Name: "data", Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}}); err == nil {
		t.Error("other options were passed over")
	}
	random, err := v.Create(t.Context(), CreateOptions{})
	if err != nil || len(random.Name) != 64 {
		t.Errorf("%+v, %v", random, err)
	}
	if list, err := v.List(); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	st, err := os.Stat(v.Mountpoint("data"))
	if err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", st, err)
	}
	if left, _ := os.ReadDir(filepath.Join(v.store.Root(), "tmp")); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

func TestNames(t *testing.T) {
	v := newVolumes(t)
	for _, name := range []string{"../x", "x/../../y", "..", ".", "a", "/etc", "a\x00b", strings.Repeat("n", 300), "-f", "a b"} {
		if _, err := v.Create(t.Context(), CreateOptions{Name: name}); err == nil {
			t.Errorf("%q was made", name)
		}
		if _, err := v.Get(name); !errors.Is(err, ErrAbsent) {
			t.Errorf("get %q: %v", name, err)
		}
		if err := v.Remove(t.Context(), name); !errors.Is(err, ErrAbsent) {
			t.Errorf("remove %q: %v", name, err)
		}
	}
	if left, _ := os.ReadDir(v.path()); len(left) > 0 {
		t.Errorf("there is %v", left)
	}
}

// What is not as it was made is left alone, and what it leads to as well.
func TestReplaced(t *testing.T) {
	v := newVolumes(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"whole", "data", "broken"} {
		if _, err := v.Create(t.Context(), CreateOptions{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.RemoveAll(v.path("whole")), os.Symlink(outside, v.path("whole")),
		os.RemoveAll(v.Mountpoint("data")), os.Symlink(outside, v.Mountpoint("data")),
		os.WriteFile(v.path("broken", recordName), []byte(`{"name":"other"`), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"whole", "data"} {
		m := []Mount{{Type: TypeVolume, Source: name, Target: "/v"}}
		list, hold, err := v.Prepare(t.Context(), "c0ffee", m, nil)
		if err == nil {
			_, err = Resolver{Volumes: v}.Resolve(t.Context(), list)
			hold.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "left alone") && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := v.Remove(t.Context(), "whole"); err == nil || !strings.Contains(err.Error(), "left alone") {
		t.Errorf("remove: %v", err)
	}
	if err := v.Remove(t.Context(), "data"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
		t.Error(err)
	}
	list, err := v.List()
	if err != nil || len(list) != 2 || list[0].Damaged == "" || list[1].Damaged == "" {
		t.Errorf("%+v, %v", list, err)
	}
	if r, err := v.Prune(t.Context(), PruneOptions{All: true}); err != nil || len(r.Names) > 0 {
		t.Errorf("pruned %v, %v", r, err)
	}
	if err := v.Remove(t.Context(), "broken"); err != nil {
		t.Error(err)
	}
}

func TestInUse(t *testing.T) {
	v := newVolumes(t)
	ask := []Mount{{Type: TypeVolume, Source: "data", Target: "/a"}, {Type: TypeVolume, Target: "/b", Flag: "image"}}
	list, hold, err := v.Prepare(t.Context(), "c0ffee", ask, nil)
	if err != nil {
		t.Fatal(err)
	}
	anonymous := list[1].Source
	if len(anonymous) != 64 || !list[1].Anonymous || list[0].Anonymous {
		t.Fatalf("%+v", list)
	}
	var used *InUseError
	// While it is being made the lock says so, then its folder.
	if err := v.Remove(t.Context(), "data"); !errors.As(err, &used) || len(used.Users) != 1 {
		t.Errorf("removed while a container is being made: %v", err)
	}
	v.makeContainer(t, "c0ffee")
	hold.Close()
	if err := v.Remove(t.Context(), "data"); err == nil || err.Error() != "remove data: volume is in use - [c0ffee]" {
		t.Errorf("removed while a container uses it: %v", err)
	}
	if r, err := v.Prune(t.Context(), PruneOptions{All: true}); err != nil || len(r.Names) > 0 {
		t.Errorf("pruned %v, %v", r, err)
	}
	// Another takes what the first has; the anonymous one outlives the first.
	f := Flags{VolumesFrom: []string{"c0ffee"}}
	theirs, err := f.Merge(nil, func(string) ([]Mount, error) { return list, nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if theirs, hold, err = v.Prepare(t.Context(), "decaf", theirs, nil); err != nil {
		t.Fatal(err)
	}
	v.makeContainer(t, "decaf")
	hold.Close()
	if err := v.Release(t.Context(), "c0ffee", list, true); err != nil {
		t.Error(err)
	}
	if users := v.Users(anonymous); !slices.Equal(users, []string{"decaf"}) {
		t.Errorf("used by %v", users)
	}
	if err := v.Release(t.Context(), "decaf", theirs, true); err != nil {
		t.Error(err)
	}
	r, err := v.Prune(t.Context(), PruneOptions{})
	if err != nil || !slices.Equal(r.Names, []string{anonymous}) {
		t.Errorf("pruned %v, %v", r, err)
	}
	if err := v.Remove(t.Context(), "data"); err != nil {
		t.Error(err)
	}
}

// A container that never came to be holds nothing, and what it noted goes.
func TestDeadUser(t *testing.T) {
	v := newVolumes(t)
	ask := []Mount{{Type: TypeVolume, Source: "data", Target: "/a"}}
	_, hold, err := v.Prepare(t.Context(), "dead", ask, nil)
	if err != nil {
		t.Fatal(err)
	}
	hold.Close() // as when its process is killed
	_, hold, err = v.Prepare(t.Context(), "alive", ask, nil)
	if err != nil {
		t.Fatal(err)
	}
	if named := v.named("data"); !slices.Equal(named, []string{"alive"}) {
		t.Errorf("users are %v", named)
	}
	hold.Close()
	if err := v.Remove(t.Context(), "data"); err != nil {
		t.Error(err)
	}
}

// A volume without a name whose container never came to be goes by itself; one whose container is being made, or was
// removed without it, stays.
func TestOrphans(t *testing.T) {
	v := newVolumes(t)
	ask := []Mount{{Type: TypeVolume, Target: "/a"}}
	make := func(id string) (string, []Mount, *Hold) {
		list, hold, err := v.Prepare(t.Context(), id, ask, nil)
		if err != nil {
			t.Fatal(err)
		}
		return list[0].Source, list, hold
	}
	orphan, _, hold := make("dead")
	hold.Close() // as when its process is killed
	left, list, hold := make("left")
	v.makeContainer(t, "left")
	hold.Close()
	if err := v.Release(t.Context(), "left", list, false); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(v.store.Root(), "containers", "left"))
	making, _, hold := make("making")
	defer hold.Close()
	_, _, another := make("another")
	defer another.Close()
	for name, want := range map[string]bool{orphan: false, left: true, making: true} {
		if _, err := v.Get(name); (err == nil) != want || err != nil && !errors.Is(err, ErrAbsent) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// An error in the middle takes back what was made.
func TestPrepareFails(t *testing.T) {
	v := newVolumes(t)
	ask := []Mount{
		{Type: TypeVolume, Target: "/anonymous"}, {Type: TypeVolume, Source: "named", Target: "/named"},
		{Type: TypeBind, Source: "/no/such/place", Target: "/bind"},
	}
	_, _, err := v.Prepare(t.Context(), "c0ffee", ask, nil)
	if err == nil || err.Error() != `invalid mount config for type "bind": bind source path does not exist: /no/such/place` {
		t.Errorf("%v", err)
	}
	list, err := v.List()
	if err != nil || len(list) != 1 || list[0].Name != "named" || len(v.named("named")) > 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// Eight processes make, use and remove one volume; each sees it whole or not at all.
func TestManyProcesses(t *testing.T) {
	root := t.TempDir()
	newFolder(t, root)
	var procs []*exec.Cmd
	var outs []*strings.Builder
	for i := range 8 {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestWorker$")
		var out strings.Builder
		cmd.Env = append(os.Environ(), "VOLUME_WORKER="+root, fmt.Sprint("VOLUME_NUMBER=", i))
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		procs, outs = append(procs, cmd), append(outs, &out)
	}
	removed := 0
	for i, cmd := range procs {
		if err := cmd.Wait(); err != nil {
			t.Errorf("worker %d: %v\n%s", i, err, outs[i])
		}
		removed += strings.Count(outs[i].String(), "removed")
	}
	if removed == 0 {
		t.Error("nobody ever removed it: nothing was shown")
	}
	if left, _ := os.ReadDir(filepath.Join(root, "tmp")); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

// TestWorker is one of TestManyProcesses'.
func TestWorker(t *testing.T) {
	root := os.Getenv("VOLUME_WORKER")
	if root == "" {
		return
	}
	v := Open(newFolder(t, root))
	for i := range 60 {
		id := fmt.Sprintf("%s%04x", strings.Repeat(os.Getenv("VOLUME_NUMBER"), 8), i)
		list, hold, err := v.Prepare(t.Context(), id, []Mount{{Type: TypeVolume, Source: "data", Target: "/a"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		mine := filepath.Join(v.Mountpoint("data"), id)
		if err := os.WriteFile(mine, nil, 0o600); err != nil {
			t.Fatalf("the volume I use is gone: %v", err)
		}
		v.makeContainer(t, id)
		hold.Close()
		if _, err := os.Stat(mine); err != nil {
			t.Fatalf("the volume I use is gone: %v", err)
		}
		if err := v.Release(t.Context(), id, list, false); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(root, "containers", id))
		err = v.Remove(t.Context(), "data")
		var used *InUseError
		switch {
		case err == nil:
			fmt.Println("removed")
		case !errors.As(err, &used) && !errors.Is(err, ErrAbsent):
			t.Fatal(err)
		}
	}
}
