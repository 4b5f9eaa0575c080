package rootfs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// forms are the ways a root can be mounted; everything is tested in each.
var forms = []struct {
	name      string
	form      Form
	userXattr bool
}{
	{"index", Index, false},
	{"trees", Trees, false},
	{"trees-userxattr", Trees, true},
}

func eachForm(t *testing.T, do func(t *testing.T, form Form, s *source)) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) { do(t, f.form, newSource(t, f.userXattr)) })
	}
}

// awkward is a chain with everything that layers do to each other.
func awkward(s *source) []digest.Digest {
	return []digest.Digest{
		s.add(mode(dir("."), 0o751), dir("etc"), file("etc/passwd", "root"), file("etc/gone", "x"), dir("etc/dir"), file("etc/dir/in", "1"),
			mode(owned(dir("secret"), 5, 6), 0o700), file("secret/a", "a"),
			dir("lib"), file("lib/one", "one"), hard("lib/two", "lib/one"), symlink("lib/link", "one"),
			dir("swap"), file("swap/tofile", "f"), dir("swap/todir"), file("swap/todir/x", "x"),
			dir("opq"), file("opq/old", "old"), dir("opq/sub"), file("opq/sub/old", "old"),
			whiteout("nothing"),
			device("lib/null", unix.S_IFCHR, 1, 3), device("lib/disk", unix.S_IFBLK, 8, 1), device("lib/pipe", unix.S_IFIFO, 0, 0),
			attr(file("lib/caps", "caps"), "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
			attr(file("lib/user", ""), "user.note", "hello"), attr(dir("lib/t"), "trusted.thing", "\x00\xff"),
		),
		s.add(whiteout("etc/gone"), whiteout("etc/dir"), at(mode(dir("etc"), 0o755), 1), file("secret/b", "implied above"),
			dir("swap"), symlink("swap/todir", "../lib"), dir("swap/tofile"), file("swap/tofile/new", "n"),
			opaque("opq"), file("opq/new", "new"), dir("opq/sub"), file("opq/sub/new", "new")),
		s.add(file("etc/dir/in", "2"), file("secret/deep/er/c", "c"), whiteout("lib/two"), file("new/implied/only/f", "f")),
		s.add(whiteout("nothing"), at(file("etc/passwd", strings.Repeat("root:x:0:0\n", 3000)), 5)),
	}
}

func TestMountedIsMerged(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form, s *source) {
		ids := awkward(s)
		for n := range len(ids) + 1 {
			want, err := snapshotFS(s.merged(ids[:n]...))
			if err != nil {
				t.Fatal(err)
			}
			for _, readonly := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d layers readonly=%v", n, readonly), func(t *testing.T) {
					m := s.prepare(form, readonly, ids[:n]...)
					mounted(t, m, func(root string) error {
						got, err := snapshotDir(root)
						if err != nil {
							return err
						}
						same(t, "mounted", got, want)
						err = os.WriteFile(filepath.Join(root, "written"), nil, 0o644)
						if readonly != (err != nil) {
							t.Errorf("write: %v", err)
						}
						return nil
					})
				})
			}
		}
	})
}

// TestMountedStrayWhiteout: overlay lists whiteouts in a directory of one layer only
// unless told that there may be some, as trees (see holdsWhiteouts) and indexes tell it.
func TestMountedStrayWhiteout(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form, s *source) {
		below := s.add(file("below", ""))
		stray := s.add(dir("stray"), whiteout("stray/none"), file("stray/some", "s"),
			opaque("opaque"), whiteout("opaque/none"), dir("opaque/in"), whiteout("opaque/in/none"), file("opaque/some", "s"),
			whiteout("nothing"), file("implied/dir/some", "s"), whiteout("implied/dir/none"))
		want := []string{".", "implied", "implied/dir", "implied/dir/some", "opaque", "opaque/in", "opaque/some", "stray", "stray/some"}
		for _, c := range []struct {
			what   string
			chain  []digest.Digest
			rdonly bool
			want   []string
		}{
			{"below", []digest.Digest{below, stray}, false, append([]string{"below"}, want...)},
			{"read-only", []digest.Digest{below, stray}, true, append([]string{"below"}, want...)},
			{"alone", []digest.Digest{stray}, false, want},
			{"alone read-only", []digest.Digest{stray}, true, want},
		} {
			mounted(t, s.prepare(form, c.rdonly, c.chain...), func(root string) error {
				got, err := snapshotDir(root)
				if err != nil {
					return fmt.Errorf("%s: %w", c.what, err)
				}
				slices.Sort(c.want)
				if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, c.want) {
					t.Errorf("%s: names %q, want %q", c.what, names, c.want)
				}
				if c.rdonly {
					return nil
				}
				// What is copied up must not bring them back, nor keep the directory from going.
				for _, dir := range []string{"stray", "opaque", "implied/dir"} {
					if err := os.WriteFile(filepath.Join(root, dir, "some"), nil, 0o600); err != nil {
						return err
					}
					if list, err := os.ReadDir(filepath.Join(root, dir)); err != nil || slices.ContainsFunc(list, func(e os.DirEntry) bool { return e.Name() == "none" }) {
						t.Errorf("%s: %s after writing: %v, %v", c.what, dir, list, err)
					}
					if err := os.RemoveAll(filepath.Join(root, dir)); err != nil {
						t.Errorf("%s: %v", c.what, err)
					}
				}
				return nil
			})
		}
	})
}

func TestAttachMany(t *testing.T) {
	by := func(aside string) func(Mount, string) error {
		return func(m Mount, target string) error { return m.attachDetached(target, aside) }
	}
	ways := []struct {
		name   string
		attach func(Mount, string) error
		layers []int
	}{
		{"detached", by(""), []int{1, 3, 127, 200, 400}},
		{"aside", putAside, []int{1, 3, 127}},
		{"placed", Mount.attachPlaced, []int{1, 3, 127, 400}},
		{"legacy", Mount.attachLegacy, []int{1, 3, 200}},
	}
	eachForm(t, func(t *testing.T, form Form, s *source) {
		most := 400
		if form == Trees {
			most = 200 // they take their time to unpack
		}
		var ids []digest.Digest
		for i := range most {
			ids = append(ids, s.add(file(fmt.Sprintf("own-%d", i), "x"), file("all", strings.Repeat("x", i))))
		}
		for _, way := range ways {
			for _, n := range way.layers {
				n = min(n, most)
				for _, readonly := range []bool{false, true} {
					if readonly && n > 3 {
						continue
					}
					t.Run(fmt.Sprintf("%s %d readonly=%v", way.name, n, readonly), func(t *testing.T) {
						m := s.prepare(form, readonly, ids[:n]...)
						attachBy(t, way.attach, m, func(root string) error { return checkMany(t, root, n) })
					})
				}
			}
		}
		m := s.prepare(form, true, ids...)
		for len(m.Lower) < maxLowers+1 {
			m.Lower = append(m.Lower, m.Lower[:min(most, maxLowers+1-len(m.Lower))]...)
		}
		few := Mount{Lower: m.Lower[:300]}
		if err := few.attachLegacy(t.TempDir()); err == nil || !strings.Contains(err.Error(), "300 layers are more than") {
			t.Errorf("300 layers in one page: %v", err)
		}
		if err := m.Attach(t.TempDir()); err == nil || !strings.Contains(err.Error(), "501 layers: overlay takes 500 at most") {
			t.Errorf("501 layers: %v", err)
		}
	})
}

// putAside attaches a root whose layers' mounts are put elsewhere, sees that they are there, and unmounts them.
func putAside(m Mount, target string) (err error) {
	dir, err := os.MkdirTemp("", "aside")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH)) }()
	if err := m.attachDetached(target, dir); err != nil {
		return err
	}
	want := 0 // directories are no mounts
	for _, l := range m.Lower {
		if l.Index != "" {
			want++
		}
	}
	if m.Upper == "" && len(m.Lower) == 1 {
		want++ // the empty one
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if n := strings.Count(string(mounts), " "+dir+"/"); err == nil && n != want {
		err = fmt.Errorf("%d mounts were put aside, not %d", n, want)
	}
	return err
}

func checkMany(t *testing.T, root string, n int) error {
	list, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	if len(list) != n+1 {
		t.Errorf("%d names, want %d", len(list), n+1)
	}
	info, err := os.Stat(filepath.Join(root, "all"))
	if err == nil && info.Size() != int64(n-1) {
		t.Errorf("file has %d bytes, want the topmost layer's %d", info.Size(), n-1)
	}
	return err
}

// attachBy is mounted by one certain way. It checks that nothing but the root is
// mounted, and nothing stays open.
func attachBy(t *testing.T, way func(Mount, string) error, m Mount, do func(root string) error) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	err := apart(func() error {
		fds, mounts := count(t, "/proc/thread-self/fd"), mountinfo(t)
		if err := way(m, root); err != nil {
			return err
		}
		if now := count(t, "/proc/thread-self/fd"); now != fds {
			t.Errorf("%d descriptors open, were %d", now, fds)
		}
		if now := mountinfo(t); len(now) != len(mounts)+1 {
			t.Errorf("mounted: %s", strings.Join(now[len(mounts):], "\n"))
		}
		return do(root)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, dir string) int {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func mountinfo(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// TestOldKernels: what kernels answer that do not know a way of mounting leads to the next way.
func TestOldKernels(t *testing.T) {
	for err, want := range map[error]bool{
		unix.ENOSYS:     true, // no fsopen
		unix.EINVAL:     true, // overlay before 6.8 knows no lowerdir+
		unix.EOPNOTSUPP: true, // and before 6.5 no descriptor
		unix.EBADF:      true, // fsconfig before 6.13 takes no descriptor of a path
		unix.EPERM:      false,
		unix.ENOENT:     false,
		unix.ELOOP:      false,
	} {
		if got := worthAnother(fmt.Errorf("overlay: %w", err)); got != want {
			t.Errorf("%v: another way is tried: %v", err, got)
		}
	}
}
