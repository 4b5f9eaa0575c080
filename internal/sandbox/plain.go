package sandbox

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// plainProgram tells whether executing a file means executing files of the root and nothing else.
// Until then the process's program is this one, as it lies on the host, writable: who
// gets to execute it as /proc/self/exe, be it by a symlink or as an interpreter, could go on to
// overwrite it (CVE-2019-5736). Copies of this program are safe from that: see selfExe.
//
// Only what nobody else can change at this moment is accepted: files of the root itself, not of
// what is mounted in it. The error is errNotDirect then, and fs.ErrNotExist where there is no such
// file.
func (c *child) plainProgram(name string) error {
	for level := range 5 { // the kernel's own limit is about that
		// Handlers registered with binfmt_misc may choose files by the end of their name.
		if strings.Contains(path.Base(name), ".") {
			return errNotDirect
		}
		start, err := c.readPlain(name)
		switch {
		case level == 0 && (err == unix.ENOENT || err == unix.ENOTDIR):
			return fs.ErrNotExist
		case err != nil:
			return errNotDirect
		case !bytes.HasPrefix(start, []byte("#!")):
			return c.plainELF(start)
		}
		if name = interpreter(start); !path.IsAbs(name) {
			return errNotDirect
		}
	}
	return errNotDirect
}

// readPlain reads the start of a file.
func (c *child) readPlain(name string) ([]byte, error) {
	if !path.IsAbs(name) {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Getcwd(buf)
		if err != nil || n < 1 {
			return nil, errNotDirect
		}
		name = string(buf[:n-1]) + "/" + name
	}
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err := unix.Openat2(c.root, name, &how)
	for try := 0; try < 100 && (err == unix.EAGAIN || err == unix.EINTR); try++ { // something was renamed or mounted meanwhile
		fd, err = unix.Openat2(c.root, name, &how)
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errNotDirect
	}
	buf := make([]byte, 1<<10)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// interpreter is that of a script, as Linux reads its first line; empty if it may not find one.
func interpreter(start []byte) string {
	line, _, whole := bytes.Cut(start[2:min(len(start), 256)], []byte("\n"))
	fields := bytes.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == 0 })
	if !whole || len(fields) == 0 {
		return ""
	}
	return string(fields[0])
}

const interpreterHeader = 3 // PT_INTERP

// plainELF tells whether a program is one for this machine, and its loader, if it has one, is a
// file of the root.
func (c *child) plainELF(start []byte) error {
	order := binary.LittleEndian
	if len(start) < 64 || string(start[:6]) != "\x7fELF\x02\x01" || order.Uint16(start[18:]) != elfMachine {
		return errNotDirect
	}
	at, size, count := order.Uint64(start[32:]), uint64(order.Uint16(start[54:])), uint64(order.Uint16(start[56:]))
	length := uint64(len(start))
	if size != 56 || at > length || at+size*count > length {
		return errNotDirect
	}
	for header := start[at:][:size*count]; len(header) > 0; header = header[size:] {
		if order.Uint32(header) != interpreterHeader {
			continue
		}
		offset, n := order.Uint64(header[8:]), order.Uint64(header[32:])
		if offset > length || n > length || n < 2 || offset+n > length {
			return errNotDirect
		}
		loader := string(start[offset:][:n-1])
		if !path.IsAbs(loader) || strings.ContainsRune(loader, 0) {
			return errNotDirect
		}
		if _, err := c.readPlain(loader); err != nil {
			return errNotDirect
		}
	}
	return nil
}
