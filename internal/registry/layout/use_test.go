package layout_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/registrytest"
)

// tree lists the files below dir.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			files = append(files, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "deep")
	l, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, dir), []string{"index.json", "oci-layout"}; !slices.Equal(got, want) {
		t.Errorf("a new layout has %q, want %q", got, want)
	}
	img := registrytest.Hello("files")
	registrytest.Put(t, l, registrytest.Ref("localhost/files:1"), img)
	want := []string{"index.json", "oci-layout"}
	for _, b := range img.Blobs {
		path := "blobs/sha256/" + b.Digest.Encoded()
		want = append(want, path)
		if data, err := os.ReadFile(filepath.Join(dir, path)); err != nil || !bytes.Equal(data, b.Data) {
			t.Errorf("%s: %d bytes, %v", path, len(data), err)
		}
		if fi, err := os.Stat(filepath.Join(dir, path)); err == nil && fi.Mode().Perm() != 0o644 {
			t.Errorf("%s has mode %v: others could not read it", path, fi.Mode())
		}
	}
	slices.Sort(want)
	if got := tree(t, dir); !slices.Equal(got, want) { // nothing else, no leftovers
		t.Errorf("files %q, want %q", got, want)
	}
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	wantIndex := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"io.containerd.image.name":"localhost/files:1","org.opencontainers.image.ref.name":"1"}}]}`,
		image.TypeIndex, image.TypeManifest, img.Desc().Digest, img.Desc().Size)
	if string(index) != wantIndex {
		t.Errorf("index.json\n got %s\nwant %s", index, wantIndex)
	}
	if _, err := layout.Create(dir); err != nil {
		t.Errorf("create where there is one: %v", err)
	}
	registrytest.Check(t, l, "", img)
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  error
	}{
		"nothing":       {nil, fs.ErrNotExist},
		"no oci-layout": {map[string]string{"index.json": `{"schemaVersion":2,"manifests":[]}`}, fs.ErrNotExist},
		"no index.json": {map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`}, fs.ErrNotExist},
		"version 2":     {map[string]string{"oci-layout": `{"imageLayoutVersion":"2.0.0"}`}, registry.ErrUnsupported},
		"no JSON":       {map[string]string{"oci-layout": `hello`}, registry.ErrInvalid},
		"huge":          {map[string]string{"oci-layout": strings.Repeat(" ", 5000)}, registry.ErrInvalid},
		"bad index":     {map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": "["}, registry.ErrInvalid},
		"bad digest": {map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`,
			"index.json": `{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:../../../etc/passwd","size":1}]}`}, registry.ErrInvalid},
	} {
		dir := t.TempDir()
		for file, data := range c.files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := layout.Open(dir); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestCreateRefuses: a folder of other things is not written to.
func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Create(dir); err == nil || !strings.Contains(err.Error(), "thesis.txt") {
		t.Errorf("error %v", err)
	}
	if got := tree(t, dir); len(got) != 1 {
		t.Errorf("files %q", got)
	}
	if _, err := layout.Create("/dev/null/x"); err == nil {
		t.Error("created below a file")
	}
}

// TestOddBlobs: what stands in a blob's place must neither hang nor be taken for it.
func TestOddBlobs(t *testing.T) {
	b := registrytest.NewBlob("text/plain", []byte("content"))
	for name, c := range map[string]struct {
		put func(path string) error
		ok  bool
	}{
		"fifo":            {func(p string) error { return unix.Mkfifo(p, 0o600) }, false},
		"directory":       {func(p string) error { return os.Mkdir(p, 0o700) }, false},
		"device":          {func(p string) error { return os.Symlink("/dev/zero", p) }, false},
		"other":           {func(p string) error { return os.WriteFile(p, []byte("CONTENT"), 0o600) }, false},
		"link to nothing": {func(p string) error { return os.Symlink("nothing", p) }, false},
		// As build tools make layouts out of their caches.
		"link to it": {func(p string) error {
			return errors.Join(os.WriteFile(p+".real", b.Data, 0o600), os.Symlink(p+".real", p))
		}, true},
	} {
		dir := t.TempDir()
		l, err := layout.Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.put(filepath.Join(dir, "blobs/sha256", b.Digest.Encoded())); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := registrytest.Get(context.WithoutCancel(t.Context()), l, "", b.Descriptor)
			done <- err
		}()
		select {
		case err := <-done:
			if (err == nil) != c.ok {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: reading hangs", name)
		}
		if name == "other" { // uploading again mends it
			if err := registrytest.Push(t.Context(), l, "", b); err != nil {
				t.Fatal(err)
			}
			registrytest.Check(t, l, "", registrytest.Image{Blobs: []registrytest.Blob{b}})
		}
	}
}

// TestProcesses: several processes tag in one layout at once and none's name is lost.
func TestProcesses(t *testing.T) {
	if dir := os.Getenv("NACRE_TEST_LAYOUT"); dir != "" {
		l, err := layout.Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		who := os.Getenv("NACRE_TEST_WHO")
		for i := range 10 {
			registrytest.Put(t, l, registrytest.Ref(fmt.Sprintf("p%s:%d", who, i)), registrytest.Hello(who))
		}
		return
	}
	dir := t.TempDir()
	var cmds []*exec.Cmd
	for who := range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProcesses$")
		cmd.Env = append(os.Environ(), "NACRE_TEST_LAYOUT="+dir, fmt.Sprint("NACRE_TEST_WHO=", who))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for x, err := range l.Refs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Resolve(t.Context(), x.Ref); err != nil {
			t.Error(err)
		}
		n++
	}
	if n != 40 {
		t.Errorf("%d names, want 40", n)
	}
	for _, name := range tree(t, dir) {
		if strings.Contains(name, ".nacre-") {
			t.Errorf("left over: %s", name)
		}
	}
}

// TestLockWaits: a held lock is waited for as long as the context lasts.
func TestLockWaits(t *testing.T) {
	dir := t.TempDir()
	l, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	img := registrytest.Hello("locked")
	registrytest.Put(t, l, registrytest.Ref("a"), img)
	f, err := os.Open(filepath.Join(dir, "oci-layout"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := l.Tag(ctx, registrytest.Ref("b"), img.Desc()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if _, err := l.Resolve(t.Context(), registrytest.Ref("a")); err != nil {
		t.Errorf("reading waits for the lock: %v", err)
	}
	f.Close()
	if err := l.Tag(t.Context(), registrytest.Ref("b"), img.Desc()); err != nil {
		t.Error(err)
	}
}

// TestFull: a full disk is an error, and leaves the layout as it was.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("mounting a small tmpfs takes root: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	l, err := layout.Create(filepath.Join(dir, "l"))
	if err != nil {
		t.Fatal(err)
	}
	img := registrytest.Hello("fits")
	registrytest.Put(t, l, registrytest.Ref("fits"), img)
	big := registrytest.NewBlob("text/plain", bytes.Repeat([]byte("x"), 1<<20))
	if err := registrytest.Push(t.Context(), l, "", big); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error %v", err)
	}
	if ok, _ := l.Has(t.Context(), "", big.Descriptor); ok {
		t.Error("it has what did not fit")
	}
	registrytest.Check(t, l, "", img)
	registrytest.Put(t, l, registrytest.Ref("small"), registrytest.Hello("small")) // the room is free again
}
