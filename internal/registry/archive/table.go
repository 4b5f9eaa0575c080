package archive

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"nacre/internal/layer"
	"nacre/internal/registry"
)

// Limits of a table, which is kept in memory. An image has some four files per layer in
// the most wasteful form.
const (
	maxEntries   = 200_000
	maxNameBytes = 32 << 20
	maxName      = 4096
	maxLinks     = 16
)

// entry is one file of the archive.
type entry struct {
	off, size int64
	link      string // another entry's name: this one is a link to it
}

// table is what an archive holds, by name. Nothing of it is ever written to a filesystem
// under its name.
type table struct {
	src     *source
	entries map[string]entry
}

// readTable lists the tar in src without reading the files' content.
func readTable(ctx context.Context, src *source) (*table, error) {
	t := &table{src: src, entries: map[string]entry{}}
	section := io.NewSectionReader(src, 0, src.size)
	r := tar.NewReader(section)
	bytes := 0
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := r.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, tarError(err)
		}
		// The reader reads headers only, block by block: the content comes next.
		off, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if bytes += len(h.Name) + len(h.Linkname); n >= maxEntries || bytes > maxNameBytes {
			return nil, fmt.Errorf("%w: more than %d entries, or %d bytes of names", ErrLimit, maxEntries, maxNameBytes)
		}
		if err := t.add(h, off); err != nil {
			return nil, fmt.Errorf("entry %q: %w", shown(h.Name), err)
		}
	}
}

func tarError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	return fmt.Errorf("%w: %w: %w", registry.ErrInvalid, ErrNoImages, err)
}

func (t *table) add(h *tar.Header, off int64) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	var e entry
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg, tar.TypeGNUSparse:
		if sparse(h) {
			return fmt.Errorf("%w: sparse files are not supported in an image archive", registry.ErrUnsupported)
		}
		if h.Size > t.src.size-off {
			return fmt.Errorf("%w: %d bytes of content, %d left in the archive", ErrTruncated, h.Size, t.src.size-off)
		}
		e = entry{off: off, size: h.Size}
	case tar.TypeLink:
		if e.link, err = cleanName(h.Linkname); err != nil {
			return fmt.Errorf("hard link to %q: %w", shown(h.Linkname), err)
		}
	case tar.TypeSymlink:
		if path.IsAbs(h.Linkname) {
			return fmt.Errorf("symlink to %q: %w: leaves the archive", shown(h.Linkname), registry.ErrInvalid)
		}
		if e.link, err = cleanName(path.Join(path.Dir(name), h.Linkname)); err != nil {
			return fmt.Errorf("symlink to %q: %w", shown(h.Linkname), err)
		}
	default:
		return fmt.Errorf("%w: of type %q, which no image archive has", registry.ErrInvalid, h.Typeflag)
	}
	if old, ok := t.entries[name]; ok && !t.same(old, e) {
		return fmt.Errorf("%w: twice in the archive, with different content", registry.ErrInvalid)
	}
	t.entries[name] = e
	return nil
}

// same tells whether two entries of one name mean the same. Where they do not, tools
// would differ in what the archive means. Comparing reads no more than the archive has.
func (t *table) same(a, b entry) bool {
	if a.link != "" || b.link != "" {
		return a.link == b.link
	}
	if a.size != b.size {
		return false
	}
	x, errx := t.sum(a)
	y, erry := t.sum(b)
	return errx == nil && erry == nil && x == y
}

func (t *table) sum(e entry) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	_, err = io.Copy(h, t.open(e))
	h.Sum(sum[:0])
	return sum, err
}

// cleanName is a name as it is looked up: relative, without "." and "..".
func cleanName(name string) (string, error) {
	clean := path.Clean(name)
	switch {
	case name == "" || len(name) > maxName || strings.ContainsRune(name, 0):
		return "", fmt.Errorf("%w: bad name", registry.ErrInvalid)
	case path.IsAbs(name), clean == "..", strings.HasPrefix(clean, "../"):
		return "", fmt.Errorf("%w: name leaves the archive", registry.ErrInvalid)
	}
	return clean, nil
}

// sparse tells whether the content of h is not in one piece, in any of the forms of GNU tar.
func sparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

func (t *table) has(name string) bool { _, err := t.file(name); return err == nil }

// file finds a regular file, through links. Errors: registry.ErrAbsent, registry.ErrInvalid.
func (t *table) file(name string) (entry, error) {
	clean, err := cleanName(name)
	if err != nil {
		return entry{}, fmt.Errorf("%q: %w", shown(name), err)
	}
	for range maxLinks {
		e, ok := t.entries[clean]
		if !ok {
			return entry{}, fmt.Errorf("the archive has no %q: %w", shown(name), registry.ErrAbsent)
		}
		if e.link == "" {
			return e, nil
		}
		clean = e.link
	}
	return entry{}, fmt.Errorf("%q: %w: too many links", shown(name), registry.ErrInvalid)
}

// open reads an entry's content. No need to close.
func (t *table) open(e entry) *io.SectionReader { return io.NewSectionReader(t.src, e.off, e.size) }

// blob is content of an image as an entry holds it.
type blob struct {
	entry
	packed bool // compressed, while its digest is that of the content uncompressed
}

func (t *table) openBlob(b blob) (io.ReadCloser, error) {
	if !b.packed {
		return io.NopCloser(t.open(b.entry)), nil
	}
	rc, _, err := layer.Decompress(t.open(b.entry))
	return rc, err
}

// read returns a small file whole.
func (t *table) read(name string, limit int64) ([]byte, error) {
	e, err := t.file(name)
	if err != nil {
		return nil, err
	}
	data, err := registry.ReadAll(t.open(e), limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shown(name), err)
	}
	return data, nil
}

// shown is a name from the archive cut to what fits an error message.
func shown(name string) string {
	const most = 100
	if len(name) > most {
		return name[:most] + "..."
	}
	return name
}
