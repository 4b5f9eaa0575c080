package rootfs

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const capNetBind = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// metaCases are about what files are apart from their names and content, and about
// what is no file.
var metaCases = []changesCase{
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
}

func mustOpen(dir string) int {
	fd, err := unix.Open(dir, unix.O_PATH, 0)
	if err != nil {
		panic(err)
	}
	return fd
}
