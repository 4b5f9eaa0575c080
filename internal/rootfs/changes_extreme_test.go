package rootfs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// extremeCases are about names, depths, sizes and numbers that are out of the ordinary,
// and names that are not the root's own.
var extremeCases = []changesCase{
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
