package layer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// mountIndex mounts the index in dir for the rest of the test.
func mountIndex(t *testing.T, dir string) string {
	t.Helper()
	target := filepath.Join(dir, "mnt")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	err := unix.Mount(filepath.Join(dir, indexFile), target, "erofs", unix.MS_RDONLY, "device="+filepath.Join(dir, tarFile))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOTBLK) {
		t.Skipf("this kernel or user cannot mount EROFS from a file: %v", err)
	}
	if err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return target
}

// scan describes all that is below dir as the kernel shows it.
func scan(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	inodes := make(map[uint64][]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		nlink := st.Nlink
		desc := fmt.Sprintf("%o %d:%d %d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			desc += fmt.Sprintf(" %d %x", st.Size, sha256.Sum256(b))
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			desc += " -> " + target
		case unix.S_IFCHR, unix.S_IFBLK:
			desc += fmt.Sprintf(" %x", st.Rdev)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			inodes[st.Ino] = append(inodes[st.Ino], name)
			desc += fmt.Sprintf(" links %d", nlink)
		}
		for _, x := range xattrsOf(t, path) {
			desc += " " + x
		}
		got[name] = desc
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, same := range inodes {
		if len(same) > 1 {
			slices.Sort(same)
			for _, name := range same {
				got[name] += " same as " + strings.Join(same, ", ")
			}
		}
	}
	return got
}

func xattrsOf(t *testing.T, path string) (list []string) {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		t.Fatalf("llistxattr %s: %v", path, err)
	}
	for name := range bytes.SplitSeq(bytes.TrimRight(buf[:n], "\x00"), []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, string(name), value)
		if err != nil {
			t.Fatalf("lgetxattr %s %s: %v", path, name, err)
		}
		list = append(list, fmt.Sprintf("%s=%q", name, value[:n]))
	}
	slices.Sort(list)
	return list
}

// untar unpacks a tar with GNU tar.
func untar(t *testing.T, tarPath string, args ...string) string {
	t.Helper()
	dir := workDir(t)
	cmd := exec.Command("tar", append([]string{"-xpf", tarPath, "-C", dir, "--xattrs", "--xattrs-include=*", "--numeric-owner"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return dir
}

// What the kernel shows of the mounted index is what GNU tar unpacks from the
// same tar, to the last attribute.
func TestMountEqualsTar(t *testing.T) {
	dir, _ := write(t, nasty()...)
	got := scan(t, mountIndex(t, dir))
	want := scan(t, untar(t, filepath.Join(dir, tarFile)))

	// GNU tar knows no whiteouts: it makes files of them.
	marker := func(name string) string {
		parent, base := filepath.Split(name)
		return parent + whiteoutPrefix + base
	}
	for _, name := range []string{"removed", "opaque/gone"} {
		if _, ok := want[marker(name)]; !ok {
			t.Errorf("tar has no %s", marker(name))
		}
		delete(want, marker(name))
		want[name] = "20000 0:0 0 0 links 1"
	}
	if _, ok := want["opaque/"+whiteoutOpaque]; !ok {
		t.Error("tar has no opaque marker")
	}
	delete(want, "opaque/"+whiteoutOpaque)
	want["opaque"] += ` trusted.overlay.opaque="y" trusted.overlay.origin=""`
	want["."] += ` trusted.overlay.origin=""`
	// It gives implied directories the present time, we the marker.
	for name := range want {
		if strings.HasPrefix(name, "implied") || strings.HasPrefix(name, "deep") && name != "deep-end" {
			if _, rest, _ := strings.Cut(name, "/"); strings.HasSuffix(rest, "end") || strings.HasSuffix(rest, "file") {
				continue
			}
			want[name] = `40755 0:0 0 trusted.overlay.nacre.implicit="y"`
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tar (-), kernel (+):\n%s", diff)
	}
}

// A file read piecemeal and by mmap through the kernel has the tar's bytes.
func TestMountReadsAnywhere(t *testing.T) {
	content := strings.Repeat("abcdefghijklmno", 300_001)
	dir, _ := write(t, regular("f", content))
	f, err := os.Open(filepath.Join(mountIndex(t, dir), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{0, 1, 511, 512, 4095, 4096, 1 << 20, int64(len(content)) - 1} {
		buf := make([]byte, 1000)
		n, err := f.ReadAt(buf, off)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if string(buf[:n]) != content[off:off+int64(n)] {
			t.Errorf("at %d: other bytes", off)
		}
	}
	m, err := unix.Mmap(int(f.Fd()), 0, len(content), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	if string(m) != content {
		t.Error("mmap: other bytes")
	}
	runtime.KeepAlive(f)
}

// Stand-alone indexes mount without a device.
func TestMountStandAlone(t *testing.T) {
	dir := workDir(t)
	path := filepath.Join(dir, "fix.erofs")
	err := WriteIndex(path, func(yield func(Entry, error) bool) {
		for _, f := range []File{folder("."), with(folder("etc"), func(f *File) { f.UID = 5; f.Mode = unix.S_IFDIR | 0o710 }), symlink("etc/l", "x")} {
			if !yield(f.Entry, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "mnt")
	os.Mkdir(target, 0o755)
	if err := unix.Mount(path, target, "erofs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(target, unix.MNT_DETACH)
	want := map[string]string{".": "40755 0:0 1700000000", "etc": "40710 5:0 1700000000", "etc/l": "120777 0:0 1700000000 -> x links 1"}
	if diff := cmp.Diff(want, scan(t, target)); diff != "" {
		t.Error(diff)
	}
}
