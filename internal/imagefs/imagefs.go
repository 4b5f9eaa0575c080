// Package imagefs gives the files of an image, wherever that is, as a rootfs.FS. Layers that are at
// hand, as in a store, are read there; others are read from where the image is into a folder that goes
// when the reading is done. A layer is read once, however many images have it.
//
// It leaves to others what is looked for in the files.
package imagefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"nacre/internal/event"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/rootfs"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Image is an image of one platform, and where it is.
type Image struct {
	Reader   registry.Reader
	Repo     string
	Manifest image.Manifest
	Config   image.Config
}

// Options of New. The zero value reads every layer.
type Options struct {
	// Have opens a layer that is at hand, and keeps it there; whoever gave it closes it. Its error is
	// registry.ErrAbsent for one that is not. nil: none is.
	Have func(ctx context.Context, diffID digest.Digest) (*layer.Layer, error)
	// Limits on what a layer may be.
	Limits layer.Limits
	// Sink hears of every layer that is read from elsewhere; nil: nobody.
	Sink event.Sink
}

// parallel is how many layers are read at once, as by registry.Copy.
const parallel = 4

// Layers are layers that were opened. Methods may be called concurrently.
type Layers struct {
	dir string
	o   Options

	mu    sync.Mutex
	known map[digest.Digest]*opened
	steps int
}

type opened struct {
	once sync.Once
	l    *layer.Layer
	own  bool // to be closed here
	err  error
}

// New returns no layers yet. What is read from elsewhere goes to the directory dir, which the caller
// removes after Close; it takes the uncompressed size of these layers.
func New(dir string, o Options) *Layers {
	if o.Sink == nil {
		o.Sink = event.Discard
	}
	return &Layers{dir: dir, o: o, known: map[digest.Digest]*opened{}}
}

// Close closes the layers that were read from elsewhere.
func (l *Layers) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, o := range l.known {
		if o.own && o.l != nil {
			errs = append(errs, o.l.Close())
		}
	}
	l.known = map[digest.Digest]*opened{}
	return errors.Join(errs...)
}

// Open opens all layers of an image, bottom first. Errors: registry.ErrInvalid where manifest and
// config do not fit, layer.ErrDiffID where a layer is not the one its config says, those of reading.
func (l *Layers) Open(ctx context.Context, img Image) ([]*layer.Layer, error) {
	ids := img.Config.RootFS.DiffIDs
	if len(ids) != len(img.Manifest.Layers) {
		return nil, fmt.Errorf("%w: %d layers in the manifest, %d diff_ids in the config", registry.ErrInvalid, len(img.Manifest.Layers), len(ids))
	}
	layers := make([]*layer.Layer, len(ids))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, id := range ids {
		g.Go(func() (err error) {
			layers[i], err = l.open(gctx, img, img.Manifest.Layers[i], id)
			return err
		})
	}
	return layers, g.Wait()
}

// Root is all of an image as one file system.
func (l *Layers) Root(ctx context.Context, img Image) (*rootfs.FS, error) {
	layers, err := l.Open(ctx, img)
	if err != nil {
		return nil, err
	}
	return rootfs.NewFS(layers...), nil
}

func (l *Layers) open(ctx context.Context, img Image, blob registry.Descriptor, id digest.Digest) (*layer.Layer, error) {
	l.mu.Lock()
	o := l.known[id]
	if o == nil {
		o = &opened{}
		l.known[id] = o
	}
	l.mu.Unlock()
	o.once.Do(func() {
		o.err = registry.ErrAbsent
		if l.o.Have != nil {
			o.l, o.err = l.o.Have(ctx, id)
		}
		if errors.Is(o.err, registry.ErrAbsent) {
			o.own = true
			o.l, o.err = l.fetch(ctx, img, blob, id)
		}
		if o.err != nil {
			o.err = fmt.Errorf("layer %s: %w", id, o.err)
		}
	})
	return o.l, o.err
}

// fetch reads a layer from where the image is, and tells the sink.
func (l *Layers) fetch(ctx context.Context, img Image, blob registry.Descriptor, id digest.Digest) (*layer.Layer, error) {
	l.mu.Lock()
	l.steps++
	step := l.steps
	l.mu.Unlock()
	l.o.Sink(event.Started{Step: event.Step{ID: step, Name: "read layer " + id.Encoded()[:12]}, Time: time.Now()})
	out, err := l.ingest(ctx, img, blob, id)
	l.o.Sink(event.Done{ID: step, Time: time.Now(), Size: blob.Size, Err: err})
	return out, err
}

func (l *Layers) ingest(ctx context.Context, img Image, blob registry.Descriptor, id digest.Digest) (*layer.Layer, error) {
	if !image.IsLayer(blob.MediaType) {
		return nil, fmt.Errorf("%w: %q is no layer of files", registry.ErrUnsupported, blob.MediaType)
	}
	rc, err := img.Reader.Open(ctx, img.Repo, blob)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	dir := filepath.Join(l.dir, id.Encoded())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := layer.Ingest(ctx, dir, rc, layer.IngestOptions{DiffID: id, Limits: l.o.Limits}); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, rc); err != nil { // only its end tells whether it is the blob
		return nil, err
	}
	return layer.Open(dir)
}
