package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// TestUnpackIsTar compares a tree with what GNU tar makes of the same layer.
func TestUnpackIsTar(t *testing.T) {
	s := newSource(t, false)
	ids := awkward(s)
	var many []layer.File
	for i := range 500 {
		many = append(many, file(fmt.Sprintf("d%d/f%d", i%7, i), strings.Repeat("x", i*37)))
	}
	for _, id := range append(ids, s.add(parents(many...)...), s.add(file(strings.Repeat("d/", 400)+"deep", "deep"))) {
		want, err := s.applied(id)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := s.Tree(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		got, err := snapshotDir(tree)
		if err != nil {
			t.Fatal(err)
		}
		l, err := s.Layer(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		for st, err := range l.All() {
			switch {
			case err != nil:
				t.Fatal(err)
			case st.Whiteout:
				if !strings.HasPrefix(got[st.Name], "020000") || !strings.HasSuffix(got[st.Name], " 0,0") {
					t.Errorf("whiteout %s: %s", st.Name, got[st.Name])
				}
				delete(got, st.Name)
			case st.Implicit && st.Name != ".":
				delete(got, st.Name) // tar gives them the time of now
				delete(want, st.Name)
			case st.Opaque:
				if !strings.Contains(got[st.Name], `trusted.overlay.opaque="y"`) {
					t.Errorf("opaque %s: %s", st.Name, got[st.Name])
				}
			}
		}
		for name, line := range got {
			line = strings.ReplaceAll(line, ` trusted.overlay.opaque="y"`, "")
			got[name] = strings.ReplaceAll(line, ` trusted.overlay.origin=""`, "")
		}
		same(t, "unpacked", got, want)
	}
}

func TestUnpackErrors(t *testing.T) {
	s := newSource(t, false)
	id := s.add(file("big", strings.Repeat("x", 1<<20)), file("f", ""))
	l, err := s.Layer(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	full := t.TempDir()
	if err := unix.Mount("none", full, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(full, unix.MNT_DETACH)
	used := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(used, "big")); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(context.Background(), l, t.TempDir(), UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	fds := count(t, "/proc/self/fd") // with the layer's tar, which it opens once
	for _, c := range []struct {
		name string
		ctx  context.Context
		dir  string
		want error
		says string
	}{
		{"cancelled", cancelled, t.TempDir(), context.Canceled, ""},
		{"full disk", context.Background(), full, unix.ENOSPC, "big"},
		{"not empty", context.Background(), used, unix.EEXIST, "big"},
		{"absent", context.Background(), "/absent", os.ErrNotExist, "/absent"},
	} {
		err := Unpack(c.ctx, l, c.dir, UnpackOptions{})
		if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: error %v, want %v with %q", c.name, err, c.want, c.says)
		}
	}
	if now := count(t, "/proc/self/fd"); now != fds {
		t.Errorf("%d descriptors open, were %d", now, fds)
	}
}

// childEnv makes a test of this binary act as a child of another test, in a directory.
const childEnv = "ROOTFS_TEST_CHILD"

// child runs the test of this name in a process of its own, as somebody else.
func child(t *testing.T, dir string, attr *syscall.SysProcAttr) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+dir, "TMPDIR="+dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("child: %v\n%s", err, out)
	}
}

// ownDir is a directory that another user can reach and has to himself.
func ownDir(t *testing.T, uid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rootfs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestUnpackUnprivileged unpacks as a user who may not even have namespaces.
func TestUnpackUnprivileged(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		child(t, ownDir(t, 65534), &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
		return
	}
	s := newSource(t, true)
	if !UserXattr() {
		t.Error("not unprivileged")
	}
	if form, err := Probe(s.dir); form != Trees || err != nil {
		t.Errorf("probe: %v, %v", form, err)
	}
	id := s.add(owned(mode(dir("d"), 0o500), 1, 2), owned(file("d/f", "f"), 3, 4), hard("d/h", "d/f"), whiteout("d/w"), opaque("o"), symlink("l", "/etc"),
		device("null", unix.S_IFCHR, 1, 3), device("pipe", unix.S_IFIFO, 0, 0), attr(file("t", ""), "trusted.x", "1"), attr(file("u", ""), "user.x", "1"))
	l, err := s.Layer(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	tree := s.scratch()
	t.Cleanup(func() { os.Chmod(filepath.Join(tree, "d"), 0o700) }) // or it cannot be removed
	var mu sync.Mutex
	var notes []string
	note := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		notes = append(notes, text)
	}
	if err := Unpack(context.Background(), l, tree, UnpackOptions{UserXattr: true, Note: note}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(notes)
	checkNotes(t, notes, []string{"attribute trusted.x of t is left out", "device null is left out"})
	got, err := snapshotDir(tree)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"d":    `040500 65534:65534 @1600000000 user.overlay.origin="" `,
		"d/f":  `100644 65534:65534 @1600000000 1 252f10c83610ebca ="d/f"`,
		"d/h":  `100644 65534:65534 @1600000000 1 252f10c83610ebca ="d/f"`,
		"o":    `040755 65534:65534 @1600000000 user.overlay.opaque="y" `,
		"l":    `120777 65534:65534 @1600000000 -> "/etc"`,
		"null": "",
		"pipe": `010660 65534:65534 @1600000000 `,
		"u":    `100644 65534:65534 @1600000000 user.x="1" 0 e3b0c44298fc1c14`,
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	if w := got["d/w"]; !strings.HasPrefix(w, "020000") {
		t.Errorf("whiteout: %q", w)
	}
}

// TestRootless does the whole round in a user namespace: probe, unpack, mount, write,
// take the changes, mount them.
func TestRootless(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		const first = 200_000
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: first, Size: 65536}}
		child(t, ownDir(t, first), &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: ids, GidMappings: ids,
			Credential: &syscall.Credential{}, GidMappingsEnableSetgroups: true,
		})
		return
	}
	if !UserXattr() {
		t.Fatal("a user namespace's root took for the real one")
	}
	s := newSource(t, true)
	form, err := Probe(s.dir)
	if form != Trees || err != nil {
		t.Fatalf("probe: %v, %v", form, err)
	}
	base := changesBaseRootless(s)
	for _, c := range changesCases {
		if slices.Contains(rootlessCases, c.name) {
			c.run(t, form, s, base)
		}
	}
}

func changesBaseRootless(s *source) []digest.Digest {
	return []digest.Digest{
		s.add(dir("."), dir("etc"), file("etc/passwd", "root:x:0:0\n"), dir("d"), file("d/one", "1"), file("d/two", "2"), dir("d/sub"), file("d/sub/three", "3"),
			symlink("d/link", "one"), dir("hl"), file("hl/a", "linked"), hard("hl/b", "hl/a"), dir("dev"), device("dev/pipe", unix.S_IFIFO, 0, 0), dir("deep"), mode(owned(dir("own"), 7, 8), 0o2750), file("own/f", "f"), symlink("abs", "/d"),
			dir("usr"), dir("usr/bin"), attr(file("usr/bin/ping", "ping"), "security.capability", capNetBind), mode(file("usr/bin/tool", "tool"), 0o755)),
		s.add(whiteout("etc/passwd"), opaque("deep"), file("own/implied", "i")),
	}
}

// rootlessCases are those that need no more than a user namespace has.
var rootlessCases = []string{
	"nothing", "append", "rename lower directory", "directory becomes file", "directory becomes symlink and directory again", "file becomes directory",
	"chmod root", "chown file", "delete directory", "delete all", "delete and make directory anew, with some of the old names", "nested opaque",
	"opaque in a changed directory", "whiteout in a new directory", "hard link to lower file", "new hard links", "setuid, setgid, sticky",
	"file capabilities", "fifo", "socket", "names that are not UTF-8", "path of 4000 bytes",
}
