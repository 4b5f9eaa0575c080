package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// Kind is what an archive is for. Both are OCI image layouts.
type Kind int

const (
	// Docker archives have a manifest.json too, for docker load and whatever else
	// reads docker's format.
	Docker Kind = iota
	// OCI archives are an OCI image layout and nothing else.
	OCI
)

// Writer writes an archive as images are copied to it: a registry.Writer. Nothing is
// spooled, so uploads go one after the other, and one that fails half-way
// spoils the archive. The same images copied in the same order give the same bytes.
type Writer struct {
	w    io.Writer
	kind Kind
	turn chan struct{} // held by the one upload under way

	mu        sync.Mutex
	err       error // the archive is spoiled, or closed
	begun     bool
	blobs     map[digest.Digest]int64
	manifests map[digest.Digest][]byte
	named     []registry.Named
}

// Create begins an archive. It is complete after Close, which leaves w open.
func Create(w io.Writer, kind Kind) *Writer {
	return &Writer{
		w: w, kind: kind, turn: make(chan struct{}, 1),
		blobs: map[digest.Digest]int64{}, manifests: map[digest.Digest][]byte{},
	}
}

// Serial implements registry.Serial.
func (w *Writer) Serial() bool { return true }

// Has implements registry.Writer.
func (w *Writer) Has(_ context.Context, _ string, d registry.Descriptor) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.has(d), nil
}

func (w *Writer) has(d registry.Descriptor) bool {
	size, ok := w.blobs[d.Digest]
	return ok && (d.Size == 0 || d.Size == size)
}

// Create implements registry.Writer. The size of d has to be known: a tar says it
// first. It waits for the end of any other upload.
func (w *Writer) Create(ctx context.Context, _ string, d registry.Descriptor) (registry.Upload, error) {
	check, err := registry.NewChecker(d)
	if err != nil {
		return nil, err
	}
	if d.Size == 0 && d.Digest != digest.FromBytes(nil) {
		return nil, fmt.Errorf("%s: %w: an archive needs to know the size first", d.Digest, registry.ErrInvalid)
	}
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		<-w.turn
		return nil, w.err
	}
	u := &upload{w: w, d: d, check: check, again: w.has(d)}
	if image.IsManifestOrIndex(d.MediaType) {
		if d.Size > image.MaxSize {
			<-w.turn
			return nil, fmt.Errorf("%s: %w: a manifest of %d bytes", d.Digest, registry.ErrInvalid, d.Size)
		}
		u.keep = &bytes.Buffer{}
	}
	return u, nil
}

// Tag implements registry.Writer. The name is written by Close.
func (w *Writer) Tag(_ context.Context, ref registry.Ref, d registry.Descriptor) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if !image.IsManifestOrIndex(d.MediaType) {
		return fmt.Errorf("tag %s: %w: media type %q", ref, registry.ErrInvalid, d.MediaType)
	}
	data, ok := w.manifests[d.Digest]
	if !ok {
		return fmt.Errorf("tag %s: %s: %w", ref, d.Digest, registry.ErrAbsent)
	}
	d.Size = int64(len(data))
	refers, err := registry.Refers(d, data)
	if err != nil {
		return fmt.Errorf("tag %s: %w", ref, err)
	}
	for _, c := range refers {
		if !w.has(c) && !image.IsIndex(d.MediaType) && !registry.MayLack(c) {
			return fmt.Errorf("tag %s: %s refers to %s: %w", ref, d.Digest, c.Digest, registry.ErrAbsent)
		}
	}
	w.named = append(w.named, registry.Named{Ref: ref, Desc: d})
	return nil
}

// Close writes the names and the end of the archive. Without it there is no
// archive. Closing again does nothing.
func (w *Writer) Close() error {
	w.turn <- struct{}{}
	defer func() { <-w.turn }()
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(w.err, errClosed) {
		return nil
	}
	if w.err != nil {
		return w.err
	}
	if w.err = w.finish(); w.err != nil {
		return w.err
	}
	w.err = errClosed
	return nil
}

var errClosed = errors.New("archive is closed")

func (w *Writer) finish() error {
	if err := w.begin(); err != nil {
		return err
	}
	names := registry.NamesOf(w.named)
	files := []func() (string, []byte, error){
		func() (string, []byte, error) {
			data, err := names.Marshal()
			return indexFile, data, err
		},
		func() (string, []byte, error) {
			data, err := w.items(names)
			return manifestFile, data, err
		},
		func() (string, []byte, error) {
			data, err := image.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
			return layoutFile, data, err
		},
		func() (string, []byte, error) {
			data, err := w.repositories(names)
			return repositoriesFile, data, err
		},
	}
	for _, f := range files {
		name, data, err := f()
		if err != nil {
			return err
		}
		if data == nil {
			continue
		}
		if err := w.writeFile(name, data); err != nil {
			return err
		}
	}
	_, err := w.w.Write(make([]byte, 2*blockSize)) // the end of a tar
	return err
}

// begin writes the directories, once.
func (w *Writer) begin() error {
	if w.begun {
		return nil
	}
	w.begun = true
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := w.writeHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) writeFile(name string, data []byte) error {
	if err := w.writeHeader(fileHeader(name, int64(len(data)))); err != nil {
		return err
	}
	if _, err := w.w.Write(data); err != nil {
		return err
	}
	return w.pad(int64(len(data)))
}

const blockSize = 512

func fileHeader(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size}
}

// writeHeader writes the header alone. The content is not passed through the
// tar.Writer, so that the kernel may copy it.
func (w *Writer) writeHeader(h *tar.Header) error {
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		return err
	}
	_, err := w.w.Write(b.Bytes())
	return err
}

func (w *Writer) pad(size int64) error {
	n := -size & (blockSize - 1)
	if n == 0 {
		return nil
	}
	_, err := w.w.Write(make([]byte, n))
	return err
}
