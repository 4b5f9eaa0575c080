// Package layer turns trees of files into OCI layers and back. A layer is a tar
// whose uncompressed bytes hash to its diffID, kept beside a small EROFS index
// whose file data points into that tar, so that it is mounted and never unpacked.
//
// The package knows one layer at a time; how layers stack is rootfs' business.
package layer

import (
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

// Entry is one object of a layer, apart from the archive format that carried it.
type Entry struct {
	// Name is relative to the root, slash separated and clean, without leading
	// slash; "." is the root itself. It is bytes, not necessarily UTF-8.
	Name string
	// Mode is a Linux st_mode: file type bits (unix.S_IFMT) and permissions (07777).
	Mode     uint32
	UID, GID int
	Size     int64 // bytes of content; regular files only
	ModTime  time.Time
	// Link is the target of a symlink, verbatim. Where Hard is set it is instead
	// the Name of an earlier entry that this one is another name of.
	Link         string
	Hard         bool
	Major, Minor uint32 // of character and block devices
	// Xattrs holds extended attributes by full name ("security.capability").
	Xattrs map[string]string
	// Whiteout: Name is deleted from the layers below; all else is then ignored.
	Whiteout bool
	// Opaque: a directory that hides whatever the layers below have in it.
	Opaque bool
}

// File is an Entry on its way into a layer, with where its content comes from.
type File struct {
	Entry
	// Open returns the content, anew at each call, from any goroutine,
	// and may be nil where there is no content.
	Open func() (io.ReadCloser, error)
	// Digest of the content (sha256), where the caller happens to know it.
	// It is used for Info.Content only, never for the diffID.
	Digest digest.Digest
}

// Info is what is known of a layer once it is written.
type Info struct {
	DiffID digest.Digest // sha256 of layer.tar
	Size   int64         // bytes of layer.tar
	// Content identifies what the layer does to a root regardless of times: a digest over the
	// sorted entries with everything but ModTime. Two layers of equal Content
	// are interchangeable as inputs of a build step.
	Content digest.Digest
	Entries int // number of entries, implied parent directories not counted
	// FileBytes is the sum of the sizes of regular files (hard links counted once).
	FileBytes int64
}
