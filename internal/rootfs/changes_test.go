package rootfs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

const capNetBind = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// changesBase is what the cases of TestChanges start from: three layers, so that
// directories are merged from several.
func changesBase(s *source) []digest.Digest {
	return []digest.Digest{
		s.add(dir("."), dir("etc"), file("etc/passwd", "root:x:0:0\n"), file("etc/hosts", "h"),
			dir("d"), file("d/one", "1"), file("d/two", "2"), dir("d/sub"), file("d/sub/three", "3"), symlink("d/link", "one"),
			dir("usr"), dir("usr/bin"), mode(file("usr/bin/tool", "tool"), 0o755), attr(file("usr/bin/ping", "ping"), "security.capability", capNetBind),
			dir("hl"), file("hl/a", "linked"), hard("hl/b", "hl/a"), hard("hl/c", "hl/a"),
			dir("dev"), device("dev/null", unix.S_IFCHR, 1, 3), device("dev/pipe", unix.S_IFIFO, 0, 0),
			dir("deep"), dir("deep/er"), file("deep/er/f", "f"), mode(owned(dir("own"), 7, 8), 0o2750), file("own/f", "f"),
			attr(attr(file("x", "x"), "user.a", "1"), "trusted.b", "2"), attr(dir("xd"), "user.dir", "d"), symlink("loop", "loop"), symlink("abs", "/d"),
		),
		s.add(dir("d"), file("d/upper", "u"), file("d/two", "two again"), dir("d/sub"), file("d/sub/four", "4"), whiteout("etc/hosts"), dir("gone"), file("gone/x", "")),
		s.add(whiteout("gone"), opaque("deep"), file("deep/new", "n"), file("own/implied", "i")),
	}
}

// A changesCase is something done in a mounted root.
type changesCase struct {
	name string
	do   func(r root) error
	// notes are parts of what is noted; none may be.
	notes []string
	// wantErr is part of the error of writing the layer.
	wantErr string
	// changed is the names of the layer, where that is of interest ("-x" for a
	// whiteout, "x/" for a directory, "x//" for an opaque one).
	changed []string
	// unlike is what no layer can keep, dropped from the comparison.
	unlike []string
	// linked are names of one file, which overlay shows with two inode numbers when it
	// is copied up in order to be linked.
	linked []string
	// noTar is why a tar cannot say it.
	noTar string
}

// root is the path of a mounted root.
type root string

func (r root) p(name string) string { return filepath.Join(string(r), name) }

func (r root) write(name, content string) error {
	return os.WriteFile(r.p(name), []byte(content), 0o644)
}

// all runs steps in turn.
func all(steps ...error) error { return errors.Join(steps...) }

var changesCases = []changesCase{
	{name: "nothing", do: func(r root) error { return nil }, changed: []string{}},
	{name: "new file", do: func(r root) error { return r.write("d/new", "n") }, changed: []string{"d/", "d/new"}},
	{name: "new file in the root", do: func(r root) error { return r.write("new", "n") }, changed: []string{"new"}},
	{name: "append", do: func(r root) error {
		f, err := os.OpenFile(r.p("d/one"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString("more")
		return err
	}, changed: []string{"d/", "d/one"}},
	{name: "truncate", do: func(r root) error { return os.Truncate(r.p("d/one"), 0) }},
	{name: "rename lower file", do: func(r root) error { return os.Rename(r.p("d/one"), r.p("etc/one")) },
		changed: []string{"d/", "-d/one", "etc/", "etc/one"}},
	{name: "rename lower file over lower file", do: func(r root) error { return os.Rename(r.p("d/one"), r.p("etc/passwd")) }},
	{name: "rename lower directory", do: func(r root) error { return move(r, "d", "moved") }},
	{name: "rename lower directory into itself's sibling", do: func(r root) error { return move(r, "d/sub", "deep/sub") }},
	{name: "rename lower directory and make it anew", do: func(r root) error {
		return all(move(r, "d", "e"), os.Mkdir(r.p("d"), 0o711), r.write("d/one", "another"))
	}},
	{name: "rename new directory over emptied lower one", do: func(r root) error {
		return all(os.Mkdir(r.p("n"), 0o755), r.write("n/f", "f"), os.RemoveAll(r.p("deep")), os.Rename(r.p("n"), r.p("deep")))
	}},
	{name: "exchange two names", do: func(r root) error {
		return unix.Renameat2(unix.AT_FDCWD, r.p("d/one"), unix.AT_FDCWD, r.p("etc/passwd"), unix.RENAME_EXCHANGE)
	}},
	{name: "directory becomes file", do: func(r root) error { return all(os.RemoveAll(r.p("d")), r.write("d", "file")) }, changed: []string{"d"}},
	{name: "directory becomes symlink", do: func(r root) error { return all(os.RemoveAll(r.p("d")), os.Symlink("usr", r.p("d"))) }, changed: []string{"d"}},
	{name: "directory becomes file and directory again", do: func(r root) error {
		return all(os.RemoveAll(r.p("d")), r.write("d", "file"), os.Remove(r.p("d")), os.Mkdir(r.p("d"), 0o755), r.write("d/in", ""))
	}, changed: []string{"d//", "d/in"}},
	{name: "directory becomes symlink and directory again", do: func(r root) error {
		return all(os.RemoveAll(r.p("d")), os.Symlink("usr", r.p("d")), os.Remove(r.p("d")), os.Mkdir(r.p("d"), 0o700))
	}},
	{name: "file becomes directory", do: func(r root) error {
		return all(os.Remove(r.p("d/one")), os.Mkdir(r.p("d/one"), 0o755), r.write("d/one/in", "x"))
	}, changed: []string{"d/", "d/one/", "d/one/in"}},
	{name: "symlink becomes directory", do: func(r root) error {
		return all(os.Remove(r.p("abs")), os.Mkdir(r.p("abs"), 0o755), r.write("abs/in", "x"))
	}},
	{name: "symlink becomes file", do: func(r root) error { return all(os.Remove(r.p("d/link")), r.write("d/link", "file")) }},
	{name: "symlink retargeted", do: func(r root) error { return all(os.Remove(r.p("d/link")), os.Symlink("two", r.p("d/link"))) }},
	{name: "write through symlink", do: func(r root) error { return r.write("d/link", "through") }, changed: []string{"d/", "d/one"}},
	{name: "chmod file", do: func(r root) error { return os.Chmod(r.p("d/one"), 0o600) }, changed: []string{"d/", "d/one"}},
	{name: "chmod directory", do: func(r root) error { return os.Chmod(r.p("d"), 0o700) }, changed: []string{"d/"}},
	{name: "chmod root", do: func(r root) error { return os.Chmod(string(r), 0o711) }, changed: []string{"./"}},
	{name: "chown file", do: func(r root) error { return os.Lchown(r.p("d/one"), 1000, 1001) }},
	{name: "chown symlink", do: func(r root) error { return os.Lchown(r.p("d/link"), 1000, 1001) }},
	{name: "chown directory", do: func(r root) error { return os.Lchown(r.p("own"), 4_000_000_000, 3_000_000_000) }},
	{name: "chown root", do: func(r root) error { return os.Lchown(string(r), 12, 13) }},
	{name: "touch", do: func(r root) error { return os.Chtimes(r.p("d/one"), time.Unix(5, 0), time.Unix(123456789, 987654321)) }},
	{name: "touch before 1970 and after 2106", do: func(r root) error {
		return all(os.Chtimes(r.p("d/one"), time.Unix(5, 0), time.Unix(-1000, 0)), os.Chtimes(r.p("d/two"), time.Unix(5, 0), time.Unix(5_000_000_000, 0)))
	}},
	{name: "touch symlink", do: func(r root) error {
		ts := []unix.Timespec{{Sec: 10}, {Sec: 20}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, r.p("abs"), ts, unix.AT_SYMLINK_NOFOLLOW)
	}},
	{name: "delete file", do: func(r root) error { return os.Remove(r.p("d/one")) }, changed: []string{"d/", "-d/one"}},
	{name: "delete directory", do: func(r root) error { return os.RemoveAll(r.p("d")) }, changed: []string{"-d"}},
	{name: "delete all", do: func(r root) error {
		list, err := os.ReadDir(string(r))
		for _, e := range list {
			err = errors.Join(err, os.RemoveAll(r.p(e.Name())))
		}
		return err
	}},
	{name: "delete and make file anew", do: func(r root) error { return all(os.Remove(r.p("d/one")), r.write("d/one", "anew")) }, changed: []string{"d/", "d/one"}},
	{name: "delete and make directory anew", do: func(r root) error { return all(os.RemoveAll(r.p("d")), os.Mkdir(r.p("d"), 0o755)) }, changed: []string{"d//"}},
	{name: "delete and make directory anew, with some of the old names", do: func(r root) error {
		return all(os.RemoveAll(r.p("d")), os.MkdirAll(r.p("d/sub"), 0o755), r.write("d/one", "n"), r.write("d/sub/five", "5"))
	}, changed: []string{"d//", "d/one", "d/sub/", "d/sub/five"}},
	{name: "nested opaque", do: func(r root) error {
		return all(os.RemoveAll(r.p("d/sub")), os.Mkdir(r.p("d/sub"), 0o755), r.write("d/sub/x", "x"),
			os.RemoveAll(r.p("d")), os.MkdirAll(r.p("d/sub"), 0o755), os.RemoveAll(r.p("d/sub")), os.Mkdir(r.p("d/sub"), 0o755))
	}, changed: []string{"d//", "d/sub/"}},
	{name: "opaque in a changed directory", do: func(r root) error {
		return all(os.RemoveAll(r.p("d/sub")), os.Mkdir(r.p("d/sub"), 0o755), r.write("d/sub/x", "x"))
	}, changed: []string{"d/", "d/sub//", "d/sub/x"}},
	{name: "whiteout in a new directory", do: func(r root) error {
		return all(os.Mkdir(r.p("n"), 0o755), r.write("n/f", ""), os.Remove(r.p("n/f")), os.Mkdir(r.p("n/d"), 0o755), os.Remove(r.p("n/d")))
	}, changed: []string{"n/"}},
	{name: "whiteout in a directory made anew", do: func(r root) error {
		return all(os.RemoveAll(r.p("d")), os.Mkdir(r.p("d"), 0o755), r.write("d/one", ""), os.Remove(r.p("d/one")))
	}, changed: []string{"d//"}},
	{name: "make and delete", do: func(r root) error { return all(r.write("d/tmp", "x"), os.Remove(r.p("d/tmp"))) }},
	{name: "moved directory takes its whiteouts along", do: func(r root) error {
		return all(os.MkdirAll(r.p("n/sub"), 0o755), os.Rename(r.p("d/one"), r.p("n/sub/one")), os.Remove(r.p("n/sub/one")), os.Rename(r.p("n"), r.p("m")))
	}},
	{name: "empty directory", do: func(r root) error { return os.Mkdir(r.p("empty"), 0o700) }, changed: []string{"empty/"}},
	{name: "hard link to lower file", do: func(r root) error {
		return all(os.Link(r.p("d/one"), r.p("etc/one")), r.write("etc/one", "written by its other name"))
	}, changed: []string{"d/", "d/one", "etc/", "etc/one"}, linked: []string{"d/one", "etc/one"}},
	{name: "hard link to lower file with other names", do: func(r root) error {
		return all(os.Link(r.p("hl/b"), r.p("d/b")), r.write("hl/b", "apart from hl/a and hl/c"))
	}, linked: []string{"d/b", "hl/b"}},
	{name: "write to a lower hard link", do: func(r root) error { return r.write("hl/b", "apart now") }},
	{name: "delete a lower hard link", do: func(r root) error { return os.Remove(r.p("hl/a")) }},
	{name: "new hard links", do: func(r root) error {
		return all(r.write("z", "links"), os.Link(r.p("z"), r.p("d/a")), os.Link(r.p("z"), r.p("usr/bin/b")), os.Remove(r.p("z")))
	}},
	{name: "hard links to symlink, pipe and device", do: func(r root) error {
		return all(os.Symlink("t", r.p("s1")), unix.Linkat(unix.AT_FDCWD, r.p("s1"), unix.AT_FDCWD, r.p("s2"), 0),
			unix.Mkfifo(r.p("p1"), 0o600), os.Link(r.p("p1"), r.p("p2")),
			unix.Mknod(r.p("c1"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))), os.Link(r.p("c1"), r.p("c2")))
	}},
	{name: "hard link to symlink below", do: func(r root) error {
		return unix.Linkat(unix.AT_FDCWD, r.p("d/link"), unix.AT_FDCWD, r.p("d/link2"), 0)
	}, linked: []string{"d/link", "d/link2"}},
	{name: "attribute of file", do: func(r root) error { return unix.Lsetxattr(r.p("d/one"), "user.note", []byte("n"), 0) }},
	{name: "attribute changed and removed", do: func(r root) error {
		return all(unix.Lsetxattr(r.p("x"), "user.a", []byte("changed"), 0), unix.Lremovexattr(r.p("x"), "trusted.b"))
	}},
	{name: "attribute of directory", do: func(r root) error {
		return all(unix.Lsetxattr(r.p("d"), "user.note", []byte("\x00\xff\n=\x00"), 0), unix.Lremovexattr(r.p("xd"), "user.dir"))
	}, noTar: "tar takes no attributes from a directory that is there"},
	{name: "attribute of root", do: func(r root) error { return unix.Lsetxattr(string(r), "user.note", []byte("n"), 0) }},
	{name: "attributes trusted, empty and large", do: func(r root) error {
		return all(unix.Lsetxattr(r.p("d/one"), "trusted.note", []byte("n"), 0), unix.Lsetxattr(r.p("d/two"), "user.empty", nil, 0),
			unix.Lsetxattr(r.p("d/two"), "user.large", []byte(strings.Repeat("large", 600)), 0), unix.Lsetxattr(r.p("d/link"), "trusted.link", []byte("n"), 0))
	}},
	{name: "attributes of overlay's names", do: func(r root) error {
		return all(unix.Lsetxattr(r.p("d"), "trusted.overlay.opaque", []byte("y"), 0), unix.Lsetxattr(r.p("d/sub"), "user.overlay.opaque", []byte("y"), 0))
	}, notes: []string{"trusted.overlay.", "user.overlay."}, unlike: []string{`trusted.overlay.opaque="y"`, `user.overlay.opaque="y"`}},
	{name: "acl", do: func(r root) error {
		acl := "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x39\x05\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
		// Overlay asks the file system below whether it can set lists, and EROFS sets
		// nothing: files must have been copied up.
		return all(os.Chmod(r.p("d/one"), 0o644), os.Chmod(r.p("d"), 0o755),
			unix.Lsetxattr(r.p("d/one"), "system.posix_acl_access", []byte(acl), 0), unix.Lsetxattr(r.p("d"), "system.posix_acl_default", []byte(acl), 0), r.write("d/inherits", ""))
	}},
	{name: "setuid, setgid, sticky", do: func(r root) error {
		return all(unix.Chmod(r.p("usr/bin/tool"), 0o4755), unix.Chmod(r.p("d/one"), 0o2755), unix.Chmod(r.p("d"), 0o3777), unix.Chmod(r.p("own"), 0o750))
	}},
	{name: "chown clears setuid", do: func(r root) error {
		return all(unix.Chmod(r.p("usr/bin/tool"), 0o6755), os.Chown(r.p("usr/bin/tool"), 1, 1))
	}},
	{name: "file capabilities", do: func(r root) error {
		return all(unix.Lsetxattr(r.p("usr/bin/tool"), "security.capability", []byte(capNetBind), 0), r.write("usr/bin/ping", "writing clears them"))
	}},
	{name: "file capabilities kept by chmod", do: func(r root) error { return os.Chmod(r.p("usr/bin/ping"), 0o711) }},
	{name: "devices", do: func(r root) error {
		return all(unix.Mknod(r.p("dev/sda"), unix.S_IFBLK|0o660, int(unix.Mkdev(8, 0))), unix.Mknod(r.p("dev/big"), unix.S_IFCHR|0o600, int(unix.Mkdev(4000, 1_000_000))),
			os.Chmod(r.p("dev/null"), 0o666), os.Remove(r.p("dev/pipe")))
	}},
	{name: "fifo", do: func(r root) error { return all(unix.Mkfifo(r.p("d/fifo"), 0o622), os.Chmod(r.p("dev/pipe"), 0o600)) }},
	{name: "socket", do: func(r root) error {
		at := fmt.Sprintf("/proc/self/fd/%d", mustOpen(r.p("d"))) // socket names are short
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at + "/sock", Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		return l.Close()
	}, notes: []string{"socket d/sock"}, unlike: []string{"d/sock"}, changed: []string{"d/"}},
	{name: "255-byte names", do: func(r root) error {
		long := strings.Repeat("n", 255)
		return all(os.Mkdir(r.p("d/"+long), 0o755), r.write("d/"+long+"/"+strings.Repeat("é", 127)+"x", "long"), os.Symlink(long, r.p(strings.Repeat("s", 255))))
	}},
	{name: "names that are not UTF-8", do: func(r root) error {
		return all(r.write("d/\xff\xfe", "1"), r.write("d/\x80", "2"), os.Mkdir(r.p("d/\xc3("), 0o755), r.write("d/\xc3(/f", "3"), os.Symlink("\xff", r.p("d/l\xff")),
			os.Link(r.p("d/\x80"), r.p("d/\x81")))
	}},
	{name: "names to mislead", do: func(r root) error {
		return all(r.write("d/ new line\n", "1"), r.write("d/-rf", "2"), r.write("d/\\", "3"), r.write("d/*", "4"), r.write("d/\x01\x7f", "5"), r.write("d/...", "6"), r.write("d/%s", "7"),
			r.write("d/a=b", "8"), r.write("d-", "sorts between d and d/"), r.write("d.x", ""), r.write("d0", ""), r.write("d/PaxHeaders.0", ""))
	}},
	{name: "path of 4000 bytes", do: func(r root) error { return deep(r, 4000) }},
	{name: "path longer than any layer takes", do: func(r root) error { return deep(r, 5000) }, wantErr: "malformed layer"},
	{name: "directories 300 deep", do: func(r root) error {
		// With something to read in each directory before and after what is below it.
		fd, err := unix.Open(r.p("deep"), unix.O_PATH, 0)
		for i := 0; err == nil && i < 300; i++ {
			err = unix.Mkdirat(fd, "b", 0o755)
			if err == nil && i%20 == 0 {
				err = all(unix.Symlinkat("before", fd, "a"), unix.Mkdirat(fd, "c", 0o700))
			}
			var next int
			if err == nil {
				next, err = unix.Openat(fd, "b", unix.O_PATH|unix.O_DIRECTORY, 0)
			}
			unix.Close(fd)
			fd = next
		}
		return all(err, unix.Close(fd))
	}},
	{name: "whiteout name", do: func(r root) error { return r.write("d/.wh.foo", "x") }, wantErr: "d/.wh.foo"},
	{name: "symlink loops", do: func(r root) error {
		return all(os.Symlink("b", r.p("d/a")), os.Symlink("a", r.p("d/b")), os.Symlink(".", r.p("d/self")), os.Symlink("../../../..", r.p("d/up")), os.Symlink("/", r.p("d/rootlink")),
			os.Symlink(strings.Repeat("x/", 2000)+"end", r.p("d/far")))
	}},
	{name: "sparse file", do: func(r root) error {
		f, err := os.Create(r.p("sparse"))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte("middle"), 3<<20)
		return all(err, f.Truncate(8<<20))
	}},
	{name: "large file", do: func(r root) error { return r.write("large", strings.Repeat("0123456789abcdef", 100_000)) }},
	{name: "sizes around a block", do: func(r root) error {
		var err error
		for _, n := range []int{0, 1, 511, 512, 513, 4095, 4096, 4097} {
			err = errors.Join(err, r.write(fmt.Sprintf("d/%d", n), strings.Repeat("b", n)))
		}
		return err
	}},
	{name: "many files", do: func(r root) error {
		var err error
		for i := range 300 {
			err = errors.Join(err, r.write(fmt.Sprintf("d/f%d", i*7919%300), fmt.Sprint(i)))
		}
		return err
	}},
	{name: "mount points", do: func(r root) error {
		return all(os.Mkdir(r.p("proc"), 0o755), r.write("etc/hosts", ""), os.Mkdir(r.p("sys"), 0o755), r.write("sys/kept", ""))
	}, changed: []string{"sys/", "sys/kept"}, unlike: []string{"proc", "etc/hosts", "etc"}},
}

// skipped is what the cases leave out as mount points.
var skipped = []string{"proc", "sys", "etc/hosts", "etc/resolv.conf"}

func mustOpen(dir string) int {
	fd, err := unix.Open(dir, unix.O_PATH, 0)
	if err != nil {
		panic(err)
	}
	return fd
}

// move is what mv does: rename, which overlay refuses for directories from below, and
// else copy and delete.
func move(r root, from, to string) error {
	err := os.Rename(r.p(from), r.p(to))
	if !errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("rename: %v, want EXDEV", err)
	}
	if err := copyTree(r.p(from), r.p(to)); err != nil {
		return err
	}
	return os.RemoveAll(r.p(from))
}

func copyTree(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		err = os.Mkdir(to, info.Mode().Perm())
		list, lerr := os.ReadDir(from)
		err = errors.Join(err, lerr)
		for _, e := range list {
			err = errors.Join(err, copyTree(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())))
		}
	case info.Mode()&os.ModeSymlink != 0:
		var target string
		if target, err = os.Readlink(from); err == nil {
			err = os.Symlink(target, to)
		}
	default:
		var data []byte
		if data, err = os.ReadFile(from); err == nil {
			err = os.WriteFile(to, data, info.Mode().Perm())
		}
	}
	return err
}

// deep makes a file at a path of n bytes, a step at a time, and a hard link to it.
func deep(r root, n int) error {
	fd, err := unix.Open(r.p("d"), unix.O_PATH, 0)
	length := 1
	for err == nil && length < n-100 {
		part := strings.Repeat("p", 40+length%30)
		length += 1 + len(part)
		if err = unix.Mkdirat(fd, part, 0o755); err != nil {
			break
		}
		var next int
		if next, err = unix.Openat(fd, part, unix.O_PATH|unix.O_DIRECTORY, 0); err == nil {
			unix.Close(fd)
			fd = next
		}
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	f, err := unix.Openat(fd, strings.Repeat("f", n-length-1), unix.O_CREAT|unix.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = unix.Write(f, []byte("deep"))
	return all(err, unix.Close(f), unix.Linkat(fd, strings.Repeat("f", n-length-1), fd, "g", 0))
}

// TestChanges does each case in a mounted root, makes a layer of what changed, and
// compares what the layer makes of the chain with what the root was.
func TestChanges(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form, s *source) {
		base := changesBase(s)
		for _, c := range changesCases {
			t.Run(c.name, func(t *testing.T) { c.run(t, form, s, base) })
		}
	})
}

func (c changesCase) run(t *testing.T, form Form, s *source, base []digest.Digest) {
	m := s.prepare(form, false, base...)
	var want snapshot
	mounted(t, m, func(r string) error {
		if err := c.do(root(r)); err != nil {
			return err
		}
		var err error
		want, err = snapshotDir(r)
		return err
	})
	var notes []string
	o := ChangesOptions{Skip: skipped, Note: func(text string) { notes = append(notes, text) }}
	var changed []string
	id, err := s.write(listed(Changes(context.Background(), m, s.merged(base...), o), &changed))
	if c.wantErr != "" {
		if err == nil || !strings.Contains(err.Error(), c.wantErr) {
			t.Fatalf("error %.300v, want one with %q", err, c.wantErr)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.changed != nil && !slices.Equal(changed, c.changed) {
		t.Errorf("changed %q, want %q", changed, c.changed)
	}
	checkNotes(t, notes, c.notes)
	c.compare(t, form, s, append(slices.Clone(base), id), want)
}

// listed passes files on and notes their names.
func listed(files iter.Seq2[layer.File, error], names *[]string) iter.Seq2[layer.File, error] {
	return func(yield func(layer.File, error) bool) {
		for f, err := range files {
			name := f.Name
			switch {
			case f.Whiteout:
				name = "-" + name
			case f.Opaque:
				name += "//"
			case f.Mode&unix.S_IFMT == unix.S_IFDIR:
				name += "/"
			}
			*names = append(*names, name)
			if !yield(f, err) {
				return
			}
		}
	}
}

func checkNotes(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("notes %q, want %q", got, want)
		return
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("note %q, want %q in it", got[i], want[i])
		}
	}
}

// compare looks at the chain in every way there is.
func (c changesCase) compare(t *testing.T, form Form, s *source, chain []digest.Digest, want snapshot) {
	c.forget(want)
	for _, name := range c.linked {
		want[name], _, _ = strings.Cut(want[name], " =")
	}
	groups{"": c.linked}.apply(want)
	got, err := snapshotFS(s.merged(chain...))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "merged", c.forget(got), want)

	mounted(t, s.prepare(form, true, chain...), func(r string) error {
		got, err := snapshotDir(r)
		if err == nil {
			same(t, "mounted again", c.forget(got), want)
		}
		return err
	})

	if form == Index && c.noTar == "" {
		got, err := s.applied(chain...)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "applied by tar", c.forget(got), want)
	}
}

// forget drops from s what the case says no layer can keep.
func (c changesCase) forget(s snapshot) snapshot {
	for _, u := range c.unlike {
		delete(s, u)
		for name, line := range s {
			s[name] = strings.ReplaceAll(line, " "+u, "")
		}
	}
	return s
}

// applied applies the tars of a chain to a directory by no code of ours: GNU tar,
// and for whiteouts the rules of the OCI image specification.
func (s *source) applied(ids ...digest.Digest) (snapshot, error) {
	dir := filepath.Join(s.scratch(), "applied")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := applyTar(filepath.Join(s.LayerDir(id), dataName), dir); err != nil {
			return nil, fmt.Errorf("layer %s: %w", id, err)
		}
	}
	return snapshotDir(dir)
}

// TestChangesAlone: without layers there is no overlay, and its marks are only files.
func TestChangesAlone(t *testing.T) {
	s := newSource(t, false)
	m := s.prepare(Index, false)
	var want snapshot
	mounted(t, m, func(r string) error {
		at := root(r)
		err := all(at.write("f", "f"), os.Link(at.p("f"), at.p("g")), os.Mkdir(at.p("d"), 0o700), at.write("d/x", ""),
			unix.Mknod(at.p("zero"), unix.S_IFCHR, 0), unix.Lsetxattr(at.p("d"), "trusted.overlay.opaque", []byte("y"), 0))
		if err == nil {
			want, err = snapshotDir(r)
		}
		return err
	})
	c := changesCase{unlike: []string{"zero", `trusted.overlay.opaque="y"`}}
	var changed []string
	id, err := s.write(listed(Changes(context.Background(), m, nil, ChangesOptions{}), &changed))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"d/", "d/x", "f", "g"}; !slices.Equal(changed, want) {
		t.Errorf("changed %q, want %q", changed, want)
	}
	c.compare(t, Index, s, []digest.Digest{id}, want)
}

// TestChangesEnds: a walk that is broken off leaves nothing open and yields no more.
func TestChangesEnds(t *testing.T) {
	s := newSource(t, false)
	m := s.prepare(Index, false, s.add(dir("d")))
	for i := range 3 {
		if err := os.MkdirAll(fmt.Sprintf("%s/d%d/%s", m.Upper, i, strings.Repeat("s/", 200)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fds := count(t, "/proc/self/fd")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := 0
	var last error
	for _, err := range Changes(ctx, m, nil, ChangesOptions{}) {
		if n++; n == 200 {
			cancel()
		}
		last = err
	}
	if !errors.Is(last, context.Canceled) || n != 201 {
		t.Errorf("after cancel: %d files, %v", n, last)
	}
	n = 0
	for range Changes(context.Background(), m, nil, ChangesOptions{}) {
		if n++; n == 250 {
			break
		}
	}
	for _, err := range Changes(context.Background(), Mount{Upper: "/absent", Work: "/absent"}, nil, ChangesOptions{}) {
		last = err
	}
	if !errors.Is(last, os.ErrNotExist) {
		t.Errorf("absent upper: %v", last)
	}
	if now := count(t, "/proc/self/fd"); now != fds {
		t.Errorf("%d descriptors open, were %d", now, fds)
	}
}

// TestXattrReader: the two ways of listing agree.
func TestXattrReader(t *testing.T) {
	at := root(t.TempDir())
	fd, err := unix.Open(string(at), unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	err = all(at.write("f", ""), at.write("none", ""), os.Symlink("f", at.p("l")), unix.Setxattr(at.p("f"), "user.a", []byte("1"), 0), unix.Setxattr(at.p("f"), "user.empty", nil, 0),
		unix.Setxattr(string(at), "user.dir", []byte("d"), 0), unix.Lsetxattr(at.p("l"), "trusted.l", []byte(long(3000)), 0), unix.Setxattr(at.p("f"), "user."+long(200), []byte("long name"), 0))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"f": fmt.Sprint(map[string]string{"user.a": "1", "user.empty": "", "user." + long(200): "long name"}), "none": "map[]",
		"l": fmt.Sprint(map[string]string{"trusted.l": long(3000)}), "": "map[user.dir:d]",
	} {
		for _, old := range []bool{false, true} {
			r := xattrReader{old: old, buf: make([]byte, 16)}
			got := map[string]string{}
			if err := r.read(fd, name, func(attr, value string) { got[attr] = value }); err != nil || fmt.Sprint(got) != want {
				t.Errorf("%q old=%v: %v, %v, want %v", name, old, got, err, want)
			}
		}
	}
}
