package rootfs

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// treeCases are about what is where: made, moved, linked, replaced, deleted.
var treeCases = []changesCase{
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
}

// move is what mv does: rename, which overlay refuses for directories from below, and
// else copy and delete.
func move(r root, from, to string) error {
	err := os.Rename(r.p(from), r.p(to))
	if !errors.Is(err, unix.EXDEV) {
		return err
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
