package through

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// manifest opens a manifest or index: rc if it is here. What it refers to is then
// fetched too.
func (r *Registry) manifest(ctx context.Context, up *Upstream, local, remote string, d registry.Descriptor, offset int64, rc io.ReadCloser) (io.ReadCloser, error) {
	if rc != nil {
		return rc, nil
	}
	src, err := up.Source.Open(ctx, remote, d)
	if err != nil {
		return nil, r.o.Failed(err)
	}
	defer src.Close()
	data, err := registry.ReadAll(src, image.MaxSize)
	if err != nil {
		return nil, err
	}
	if d.Digest.Algorithm().FromBytes(data) != d.Digest {
		return nil, fmt.Errorf("%s: %w", d.Digest, registry.ErrDigest)
	}
	d.Size = int64(len(data))
	r.fill(up, local, remote, d, data)
	return io.NopCloser(bytes.NewReader(data[min(offset, d.Size):])), nil
}

// maxWaiting bounds the images that wait to be filled; those beyond are left to the next who asks.
const maxWaiting = 1000

// fill fetches an image whole in the background, once at a time.
func (r *Registry) fill(up *Upstream, local, remote string, d registry.Descriptor, data []byte) {
	k := key(local, d.Digest)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.filling[k] || len(r.filling) >= maxWaiting || r.ctx.Err() != nil {
		return
	}
	r.filling[k] = true
	r.wait.Go(func() {
		var err error
		select {
		case r.room <- struct{}{}:
			err = r.settle(up, local, remote, d, data)
			<-r.room
		case <-r.ctx.Done():
		}
		r.mu.Lock()
		delete(r.filling, k)
		r.mu.Unlock()
		if err != nil && r.ctx.Err() == nil {
			r.o.Warn(local, fmt.Errorf("%s is not kept: %w", d.Digest, err))
		}
	})
}

// settle makes an image the local registry's: its blobs, then itself, then its names.
func (r *Registry) settle(up *Upstream, local, remote string, d registry.Descriptor, data []byte) error {
	if image.IsManifest(d.MediaType) {
		m, err := image.ParseManifest(data)
		if err != nil {
			return fmt.Errorf("%w: %w", registry.ErrInvalid, err)
		}
		for _, b := range append([]registry.Descriptor{m.Config}, m.Layers...) {
			if err := r.blob(up, local, remote, b); err != nil {
				return err
			}
		}
	}
	w, err := r.Local.Create(r.ctx, local, d)
	if err != nil {
		return err
	}
	defer w.Cancel()
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Commit(); err != nil {
		return err
	}
	k := key(local, d.Digest)
	r.mu.Lock()
	tags := r.wanted[k]
	delete(r.wanted, k)
	r.mu.Unlock()
	errs := []error{r.Local.Tag(r.ctx, registry.Ref{Repo: local, Digest: d.Digest}, d)}
	for _, t := range tags {
		errs = append(errs, r.Local.Tag(r.ctx, registry.Ref{Repo: local, Tag: t}, d))
	}
	return errors.Join(errs...)
}

// blob fetches a blob of an image, unless it is here, or is not to be had from a registry.
func (r *Registry) blob(up *Upstream, local, remote string, b registry.Descriptor) error {
	if len(b.URLs) > 0 {
		return nil
	}
	has, err := r.Local.Has(r.ctx, local, b)
	if err != nil || has {
		return err
	}
	f, err := r.fetch(up, local, remote, b)
	if err != nil {
		return err
	}
	defer f.leave()
	return f.landed(r.ctx)
}
