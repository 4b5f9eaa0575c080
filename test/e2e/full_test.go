package e2e

import (
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newTmpfs returns a store on a tmpfs of the given size. There layers cannot be mounted
// from files, so this is the store of unpacked trees as well.
func newTmpfs(t testing.TB, size string) *store {
	t.Helper()
	dir, err := os.MkdirTemp("", "nacre-root-")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		killAll(dir)
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err) // something of ours is still in there
			unix.Unmount(dir, unix.MNT_DETACH)
		}
		os.Remove(dir)
	})
	return &store{root: filepath.Join(dir, "root")}
}

// random is content that does not compress.
func random(seed int64, n int) string {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return string(b)
}

// TestFullStore: with no space left a build, a load and an import say so and leave the
// store as it was, ready for what fits.
func TestFullStore(t *testing.T) {
	t.Parallel()
	s := newTmpfs(t, "32m")
	s.importBase(t, "busybox", `CMD ["sh"]`)
	small := writeFiles(t, map[string]string{"a": "a\n", "Dockerfile": "FROM busybox\nCOPY a /a\nRUN cat /a /a > /b\nCMD [\"cat\",\"/b\"]\n"})
	s.build(t, "small", small)
	id := s.inspect(t, "small", "{{.Id}}")
	before := listing(t, s.root+"/layers")

	dir := writeFiles(t, map[string]string{"big": random(1, 40<<20), "Dockerfile": "FROM busybox\nCOPY big /big\n"})
	full := []string{`(?i)no space left`}
	s.fails(t, 1, append(full, "Dockerfile:2"), "build", "-t", "big", dir)
	run := writeFiles(t, map[string]string{"Dockerfile": "FROM busybox\nRUN cat /dev/urandom > /big\n"})
	s.fails(t, 1, append(full, "Dockerfile:2"), "build", "-t", "big", run)

	roomy := newBusybox(t)
	roomy.build(t, "big", dir)
	tar := filepath.Join(t.TempDir(), "big.tar")
	roomy.ok(t, "save", "-o", tar, "big")
	s.fails(t, 1, full, "load", "-i", tar)
	raw := filepath.Join(t.TempDir(), "raw.tar")
	os.WriteFile(raw, tarOf(t, file("big", random(2, 40<<20))), 0o644)
	s.fails(t, 1, full, "import", raw, "big")

	s.check(t)
	if after := listing(t, s.root+"/layers"); after != before {
		t.Errorf("the store holds layers it did not before:\n%s\nbefore:\n%s", after, before)
	}
	if left, err := os.ReadDir(s.root + "/tmp"); len(left) > 0 || err != nil {
		t.Errorf("half done things are left behind: %v, %v", left, err)
	}
	if got := s.inspect(t, "small", "{{.Id}}"); got != id {
		t.Errorf("the image is %s, was %s", got, id)
	}
	s.build(t, "small", small, "--no-cache")
	if got := s.ok(t, "run", "--rm", "--network", "none", "small"); got != "a\na" {
		t.Errorf("it says %q", got)
	}
}

// TestUnwritableStore: a root that cannot be written is named.
func TestUnwritableStore(t *testing.T) {
	t.Parallel()
	s := newTmpfs(t, "4m")
	dir := filepath.Dir(s.root)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=4m"); err != nil {
		t.Fatal(err)
	}
	ctx := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nLABEL a=b\n"})
	text := s.fails(t, 1, []string{`(?i)read-only`}, "build", ctx)
	if !strings.Contains(text, s.root) {
		t.Errorf("it does not say what cannot be written: %s", text)
	}
	notDir := filepath.Join(t.TempDir(), "file")
	os.WriteFile(notDir, nil, 0o644)
	under := &store{root: notDir}
	under.fails(t, 1, []string{`(?i)not a directory`, notDir}, "images")
}
