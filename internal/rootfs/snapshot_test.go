package rootfs

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// snapshot is a root as values: a line of text for each name, that says all that is
// compared. The time of the root itself is not: no layer carries it.
type snapshot map[string]string

func line(mode uint32, uid, gid int, mtime int64, xattrs map[string]string, rest string) string {
	var x strings.Builder
	for _, k := range slices.Sorted(maps.Keys(xattrs)) {
		fmt.Fprintf(&x, " %s=%q", k, xattrs[k])
	}
	return fmt.Sprintf("%06o %d:%d @%d%s %s", mode, uid, gid, mtime, x.String(), rest)
}

// groups names each set of hard links by its first name.
type groups map[string][]string

func (g groups) add(id, name string) { g[id] = append(g[id], name) }

func (g groups) apply(s snapshot) {
	for _, names := range g {
		sort.Strings(names)
		if len(names) > 1 {
			for _, n := range names {
				s[n] += " =" + fmt.Sprintf("%q", short(names[0]))
			}
		}
	}
}

func short(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%s..%x", s[:50], sha256.Sum256([]byte(s)))[:60]
	}
	return s
}

// snapshotDir reads a directory on disk, by steps that take paths of any length.
func snapshotDir(root string) (snapshot, error) {
	s, g := snapshot{}, groups{}
	var walk func(fd int, name string) error
	describe := func(fd int, base, name string) error {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("stat %q: %w", name, err)
		}
		at := fmt.Sprintf("/proc/self/fd/%d/%s", fd, base)
		xattrs, err := readXattrs(at)
		if err != nil {
			return fmt.Errorf("xattrs of %q: %w", name, err)
		}
		rest := ""
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			sum, err := sumFile(at)
			if err != nil {
				return err
			}
			rest = fmt.Sprintf("%d %s", st.Size, sum)
		case unix.S_IFLNK:
			if rest, err = os.Readlink(at); err != nil {
				return err
			}
			rest = fmt.Sprintf("-> %q", rest)
		case unix.S_IFCHR, unix.S_IFBLK:
			rest = fmt.Sprintf("%d,%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		mtime := st.Mtim.Sec
		if name == "." {
			mtime = 0
		}
		s[name] = line(st.Mode, int(st.Uid), int(st.Gid), mtime, xattrs, rest)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			g.add(fmt.Sprint(st.Dev, st.Ino), name)
			return nil
		}
		sub, err := unix.Openat(fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(sub)
		return walk(sub, name)
	}
	walk = func(fd int, name string) error {
		d, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			return err
		}
		bases, err := d.Readdirnames(-1)
		d.Close()
		if err != nil {
			return err
		}
		for _, base := range bases {
			if err := describe(fd, base, path.Join(name, base)); err != nil {
				return err
			}
		}
		return nil
	}
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := describe(fd, ".", "."); err != nil {
		return nil, err
	}
	g.apply(s)
	return s, nil
}

func readXattrs(at string) (map[string]string, error) {
	buf := make([]byte, 128<<10)
	n, err := unix.Llistxattr(at, buf)
	if err != nil || n == 0 {
		return nil, err
	}
	x := map[string]string{}
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "security.selinux" {
			continue
		}
		value := make([]byte, 128<<10)
		m, err := unix.Lgetxattr(at, name, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		x[name] = string(value[:m])
	}
	return x, nil
}

func sumFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return sum(f)
}

func sum(r io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), err
}

// snapshotFS reads a merged view.
func snapshotFS(f *FS) (snapshot, error) {
	s, g := snapshot{}, groups{}
	var walk func(info fs.FileInfo) error
	walk = func(info fs.FileInfo) error {
		st := info.Sys().(*layer.Stat)
		rest := ""
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			r, err := f.Open(st.Name)
			if err != nil {
				return err
			}
			sum, err := sum(r)
			r.Close()
			if err != nil {
				return err
			}
			rest = fmt.Sprintf("%d %s", st.Size, sum)
		case unix.S_IFLNK:
			target, err := f.ReadLink(st.Name)
			if err != nil {
				return err
			}
			rest = fmt.Sprintf("-> %q", target)
		case unix.S_IFCHR, unix.S_IFBLK:
			rest = fmt.Sprintf("%d,%d", st.Major, st.Minor)
		}
		mtime := st.ModTime.Unix()
		if st.Name == "." {
			mtime = 0
		}
		s[st.Name] = line(st.Mode, st.UID, st.GID, mtime, st.Xattrs, rest)
		if !info.IsDir() {
			g.add(fmt.Sprint(st.Ino), st.Name)
			return nil
		}
		list, err := f.ReadDir(st.Name)
		if err != nil {
			return err
		}
		for _, e := range list {
			info, err := e.Info()
			if err != nil {
				return err
			}
			if err := walk(info); err != nil {
				return err
			}
		}
		return nil
	}
	info, err := f.Lstat(".")
	if err != nil {
		return nil, err
	}
	if err := walk(info); err != nil {
		return nil, err
	}
	g.apply(s)
	return s, nil
}

// same compares two snapshots and tells the names that differ.
func same(t testing.TB, what string, got, want snapshot) {
	t.Helper()
	if len(want) == 0 {
		t.Errorf("%s: nothing to compare with", what)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		if len(diff) > 4000 {
			diff = diff[:4000] + "..."
		}
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
