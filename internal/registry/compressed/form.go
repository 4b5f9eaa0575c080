package compressed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"nacre/internal/event"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// layer returns the descriptor that layer d, of a diffID, gets, and what that decompresses to.
func (r *Reader) layer(ctx context.Context, l *store.Lease, d registry.Descriptor, diffID digest.Digest, types Types) (registry.Descriptor, digest.Digest, error) {
	if !image.IsLayer(d.MediaType) || image.IsForeign(d.MediaType) {
		return d, diffID, nil
	}
	want := r.o.Compression
	have := kindOf(d)
	if have == want.Kind || have != layer.Uncompressed && !r.o.Force {
		d.MediaType = r.retype(d.MediaType, types, have)
		return d, diffID, nil
	}
	if want.Kind == layer.Uncompressed {
		info, err := r.s.LayerInfo(ctx, diffID)
		return registry.Descriptor{MediaType: types.layer(want.Kind), Digest: diffID, Size: info.Size}, diffID, err
	}
	if !r.o.Force {
		if came, err := r.s.CompressedAs(ctx, diffID); err == nil {
			came.MediaType = types.layer(image.Compression(came.MediaType))
			return came, diffID, nil
		} else if !errors.Is(err, registry.ErrAbsent) {
			return d, diffID, err
		}
	}
	f, err := r.s.Form(ctx, diffID, want.Name())
	if errors.Is(err, registry.ErrAbsent) {
		f, err = r.form(ctx, l, diffID, want, r.to != nil)
		if _, lerr := r.s.LayerInfo(ctx, diffID); errors.Is(lerr, registry.ErrAbsent) && r.src != registry.Reader(r.s) {
			return d, diffID, nil // it is elsewhere, and goes on as it is
		}
	}
	f.Desc.MediaType = types.layer(want.Kind)
	return f.Desc, f.DiffID, err
}

// retype is the media type of a layer that stays as it is in a manifest of the types.
func (r *Reader) retype(mediaType string, types Types, kind string) string {
	if r.o.Types == AsIs {
		return mediaType
	}
	return types.layer(kind)
}

// form returns a compressed form of a layer whose blob is there, making it if it is not.
func (r *Reader) form(ctx context.Context, l *store.Lease, diffID digest.Digest, c layer.Compression, sends bool) (store.Form, error) {
	if l == nil {
		return store.Form{}, fmt.Errorf("compress: %w", registry.ErrReadOnly)
	}
	p := &packing{r: r, c: c, diffID: diffID, sends: sends}
	defer p.cancel()
	f, made, err := r.s.MakeForm(ctx, l, diffID, c.Name(), OCI.layer(c.Kind), p.pack)
	if err != nil {
		return p.instead(ctx, err)
	}
	if made {
		p.commit(f)
	}
	return f, nil
}

// packing is one layer being compressed.
type packing struct {
	r      *Reader
	c      layer.Compression
	diffID digest.Digest
	sends  bool // it is sent while it is compressed
	tee    *tee // nil before it began, and where nothing is sent
	packed layer.Packed
	all    bool // the whole layer was compressed
}

// pack is a store.FormSource.
func (p *packing) pack(ctx context.Context, file *store.FormWriter) (digest.Digest, map[string]string, error) {
	f, size, err := p.open()
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	var w io.Writer = file
	if p.sends {
		p.tee = p.r.to.tee(ctx, file)
		w = p.tee
	}
	done := p.r.step(p.diffID, size, p.sends)
	err = p.compress(ctx, w, f, done)
	p.all = err == nil
	done.end(err)
	if p.tee != nil && err == nil {
		err = p.tee.local // the store did not get it all: see instead
	}
	return p.packed.DiffID, p.packed.Annotations, err
}

// open opens the layer's tar, and tells its size.
func (p *packing) open() (*os.File, int64, error) {
	f, err := os.Open(filepath.Join(p.r.s.LayerDir(p.diffID), "layer.tar"))
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// passing is form f, which nobody keeps, made while it is read.
func (r *Reader) passing(ctx context.Context, f store.Form, c layer.Compression, d registry.Descriptor) (io.ReadCloser, error) {
	p := &packing{r: r, c: c, diffID: f.Layer}
	tar, size, err := p.open()
	if err != nil {
		return nil, err
	}
	out, in := io.Pipe() // ends the other side, whichever is closed
	go func() {
		defer tar.Close()
		done := r.step(f.Layer, size, true)
		err := p.compress(ctx, in, tar, done)
		done.end(err)
		in.CloseWithError(err)
	}()
	return registry.Verify(out, d), nil
}

func (p *packing) compress(ctx context.Context, w io.Writer, f io.Reader, s *step) error {
	out, err := layer.Compress(w, p.c)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for err == nil {
		if err = ctx.Err(); err != nil {
			break
		}
		var n int
		n, err = f.Read(buf)
		if _, werr := out.Write(buf[:n]); werr != nil {
			err = werr
		}
		s.progress(int64(n))
	}
	if err == io.EOF {
		err = nil
	}
	err = errors.Join(err, out.Close())
	p.packed = out.Packed()
	return err
}

// step is the compression of a layer as it is told to the sink.
type step struct {
	r        *Reader
	id       int
	d        digest.Digest
	size, at int64 // of the tar
	told     time.Time
}

// progressEvery spares the sink, as Copy does.
const progressEvery = 50 * time.Millisecond

func (r *Reader) step(d digest.Digest, size int64, sent bool) *step {
	r.mu.Lock()
	id := r.o.Step()
	r.mu.Unlock()
	s := &step{r: r, id: id, d: d, size: size, told: time.Now()}
	verb := "compress"
	if sent {
		verb = "compress and push"
	}
	r.o.Sink(event.Started{Step: event.Step{ID: id, Name: verb + " layer " + d.Encoded()[:12]}, Time: s.told})
	return s
}

func (s *step) progress(n int64) {
	s.at += n
	if now := time.Now(); now.Sub(s.told) >= progressEvery {
		s.told = now
		s.r.o.Sink(event.Progress{ID: s.id, Time: now, Item: s.d.String(), Current: s.at, Total: s.size, Unit: "B"})
	}
}

func (s *step) end(err error) {
	now := time.Now()
	s.r.o.Sink(event.Progress{ID: s.id, Time: now, Item: s.d.String(), Current: s.at, Total: s.size, Unit: "B"})
	s.r.o.Sink(event.Done{ID: s.id, Time: now, Size: s.at, Err: err})
}
