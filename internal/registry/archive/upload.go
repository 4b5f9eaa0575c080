package archive

import (
	"bytes"
	"fmt"
	"io"

	"nacre/internal/registry"
)

// upload is one blob on its way into the archive. It holds the Writer's turn.
type upload struct {
	w     *Writer
	d     registry.Descriptor
	check *registry.Checker
	keep  *bytes.Buffer // the bytes of a manifest
	again bool          // the blob is there already: only checked
	begun bool          // its header is written
	ended bool
}

func (u *upload) Write(p []byte) (int, error) {
	if u.ended {
		return 0, fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	if _, err := u.check.Write(p); err != nil {
		return 0, err
	}
	if u.keep != nil {
		u.keep.Write(p)
	}
	if u.again {
		return len(p), nil
	}
	if err := u.begin(); err != nil {
		return 0, err
	}
	return u.w.w.Write(p)
}

// ReadFrom lets the kernel copy where both ends are files.
func (u *upload) ReadFrom(r io.Reader) (int64, error) {
	if u.ended || u.again || u.keep != nil {
		return io.Copy(struct{ io.Writer }{u}, r)
	}
	if err := u.begin(); err != nil {
		return 0, err
	}
	return u.check.CopyTo(u.w.w, r)
}

func (u *upload) begin() error {
	if u.begun {
		return nil
	}
	u.begun = true
	u.w.mu.Lock()
	defer u.w.mu.Unlock()
	if err := u.w.begin(); err != nil {
		return err
	}
	return u.w.writeHeader(fileHeader(blobName(u.d.Digest), u.d.Size))
}

// Commit ends the entry.
func (u *upload) Commit() error {
	if u.ended {
		return fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	defer u.Cancel()
	if err := u.check.Check(); err != nil {
		return err
	}
	if !u.again {
		if err := u.begin(); err != nil { // an empty blob
			return err
		}
		if err := u.w.pad(u.d.Size); err != nil {
			return err
		}
	}
	u.w.mu.Lock()
	defer u.w.mu.Unlock()
	u.begun = false // whole: Cancel spoils nothing
	u.w.blobs[u.d.Digest] = u.d.Size
	if u.keep != nil {
		u.w.manifests[u.d.Digest] = u.keep.Bytes()
	}
	return nil
}

// Cancel gives up. Where the entry was begun the archive cannot be made whole any more.
func (u *upload) Cancel() error {
	if u.ended {
		return nil
	}
	u.ended = true
	if u.begun {
		u.w.mu.Lock()
		u.w.err = fmt.Errorf("archive is spoiled: %s was not written whole", u.d.Digest)
		u.w.mu.Unlock()
	}
	<-u.w.turn
	return nil
}
