package layer

import (
	"io/fs"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// Stat is what FileInfo.Sys returns, as *Stat: an entry and its place in the index.
type Stat struct {
	Entry
	// Ino tells entries of one layer apart: two names with the same Ino are hard links.
	Ino   uint64
	Nlink uint32
	// Implicit: a directory the tar never mentioned, implied by a path below it.
	// Its metadata (root's, 0755, time 0) is invented.
	Implicit bool
}

// FileMode returns the mode in Go's form.
func (s *Stat) FileMode() fs.FileMode { return FileMode(s.Mode) }

// FileMode turns a Linux st_mode into Go's form.
func FileMode(stMode uint32) fs.FileMode {
	m := fs.FileMode(stMode & 0o777)
	switch stMode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	}
	if stMode&unix.S_ISUID != 0 {
		m |= fs.ModeSetuid
	}
	if stMode&unix.S_ISGID != 0 {
		m |= fs.ModeSetgid
	}
	if stMode&unix.S_ISVTX != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// StMode turns a mode in Go's form into a Linux st_mode.
func StMode(m fs.FileMode) uint32 {
	st := uint32(m.Perm())
	switch {
	case m&fs.ModeDir != 0:
		st |= unix.S_IFDIR
	case m&fs.ModeSymlink != 0:
		st |= unix.S_IFLNK
	case m&fs.ModeCharDevice != 0:
		st |= unix.S_IFCHR
	case m&fs.ModeDevice != 0:
		st |= unix.S_IFBLK
	case m&fs.ModeNamedPipe != 0:
		st |= unix.S_IFIFO
	case m&fs.ModeSocket != 0:
		st |= unix.S_IFSOCK
	default:
		st |= unix.S_IFREG
	}
	if m&fs.ModeSetuid != 0 {
		st |= unix.S_ISUID
	}
	if m&fs.ModeSetgid != 0 {
		st |= unix.S_ISGID
	}
	if m&fs.ModeSticky != 0 {
		st |= unix.S_ISVTX
	}
	return st
}

// NewFileInfo makes an fs.FileInfo of s; its Sys is s. Its Name is the last
// component of s.Name.
func NewFileInfo(s *Stat) fs.FileInfo { return fileInfo{s} }

type fileInfo struct{ s *Stat }

func (i fileInfo) Name() string       { return path.Base(i.s.Name) }
func (i fileInfo) Mode() fs.FileMode  { return i.s.FileMode() }
func (i fileInfo) ModTime() time.Time { return i.s.ModTime }
func (i fileInfo) IsDir() bool        { return i.s.Mode&unix.S_IFMT == unix.S_IFDIR }
func (i fileInfo) Sys() any           { return i.s }

// Size is the length of the content, or of a symlink's target as lstat(2) has it.
func (i fileInfo) Size() int64 {
	if i.s.Mode&unix.S_IFMT == unix.S_IFLNK {
		return int64(len(i.s.Link))
	}
	return i.s.Size
}
