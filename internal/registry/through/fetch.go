package through

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// flight is a blob on its way: a file that grows, and those who read it meanwhile.
type flight struct {
	desc registry.Descriptor
	path string

	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, when any of the following changes
	size    int64         // bytes that are in the file
	done    bool
	err     error    // of the content: who reads it gets this in place of its end
	unkept  error    // why it is not part of the local registry, whole as it is
	file    *os.File // for new readers; closed by the last who has it
	users   int
}

func (r *Registry) flying(k string) *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flights[k]
}

// fetch begins to fetch a blob, or joins who does already.
func (r *Registry) fetch(up *Upstream, local, remote string, d registry.Descriptor) (*flight, error) {
	k := key(local, d.Digest)
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[k]; f != nil {
		f.join()
		return f, nil
	}
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(r.scratch, "fetch-")
	if err != nil {
		return nil, err
	}
	f := &flight{desc: d, path: file.Name(), changed: make(chan struct{}), file: file, users: 2} // the caller, and who fetches
	r.flights[k] = f
	r.wait.Go(func() {
		err := r.carry(f, up, remote)
		var unkept error
		if err == nil {
			unkept = r.keep(f, local)
		}
		r.mu.Lock()
		delete(r.flights, k)
		r.mu.Unlock()
		f.finish(err, unkept)
		f.leave()
		os.Remove(f.path) // it is still there if it was not adopted
		if err := errors.Join(err, unkept); err != nil && r.ctx.Err() == nil {
			r.o.Warn(local, fmt.Errorf("fetch %s: %w", d.Digest, err))
		}
	})
	return f, nil
}

// carry fetches and verifies.
func (r *Registry) carry(f *flight, up *Upstream, remote string) error {
	rc, err := up.Source.Open(r.ctx, remote, f.desc)
	if err != nil {
		return err
	}
	defer rc.Close()
	v := f.desc.Digest.Verifier()
	size, err := io.Copy(io.MultiWriter(f, v), rc)
	switch {
	case err != nil:
		return err
	case f.desc.Size > 0 && size != f.desc.Size:
		return fmt.Errorf("%d bytes came of %d: %w", size, f.desc.Size, registry.ErrSize)
	case !v.Verified():
		return registry.ErrDigest
	}
	return nil
}

// keep makes what was carried the local registry's. Who reads it need not care if that fails.
func (r *Registry) keep(f *flight, local string) error {
	if err := f.file.Sync(); err != nil {
		return err
	}
	d := f.desc
	d.Size = f.size // nobody else writes any more
	return r.Local.Adopt(r.ctx, local, d, f.path)
}

// Write adds to the file, and tells those who wait for it.
func (f *flight) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.size += int64(n)
	f.tell()
	return n, err
}

func (f *flight) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *flight) finish(err, unkept error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done, f.err, f.unkept = true, err, unkept
	f.tell()
}

func (f *flight) join() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users++
}

func (f *flight) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users--; f.users == 0 {
		f.file.Close()
	}
}

// landed waits until it is kept.
func (f *flight) landed(ctx context.Context) error {
	for {
		f.mu.Lock()
		done, err, changed := f.done, errors.Join(f.err, f.unkept), f.changed
		f.mu.Unlock()
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// passenger reads a flight from offset on.
type passenger struct {
	ctx    context.Context
	f      *flight
	offset int64
	closed bool
}

// Read waits for bytes that are not there yet. The end is only reached when all of it is verified.
func (p *passenger) Read(b []byte) (int, error) {
	for {
		p.f.mu.Lock()
		size, done, err, changed := p.f.size, p.f.done, p.f.err, p.f.changed
		p.f.mu.Unlock()
		switch {
		case p.closed:
			return 0, os.ErrClosed
		case p.offset < size:
			n, err := p.f.file.ReadAt(b[:min(int64(len(b)), size-p.offset)], p.offset)
			p.offset += int64(n)
			if n > 0 {
				err = nil
			}
			return n, err
		case done && err != nil:
			return 0, err
		case done:
			return 0, io.EOF
		}
		select {
		case <-p.ctx.Done():
			return 0, context.Cause(p.ctx)
		case <-changed:
		}
	}
}

func (p *passenger) Close() error {
	if !p.closed {
		p.closed = true
		p.f.leave()
	}
	return nil
}

// Open implements registry.Reader.
func (r *Registry) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	return r.open(ctx, repo, d, 0, func(local string) (io.ReadCloser, error) { return r.Local.Open(ctx, local, d) })
}

// OpenAt implements registry.Ranger.
func (r *Registry) OpenAt(ctx context.Context, repo string, d registry.Descriptor, offset int64) (io.ReadCloser, error) {
	return r.open(ctx, repo, d, offset, func(local string) (io.ReadCloser, error) { return r.Local.OpenAt(ctx, local, d, offset) })
}

func (r *Registry) open(ctx context.Context, repo string, d registry.Descriptor, offset int64, here func(string) (io.ReadCloser, error)) (io.ReadCloser, error) {
	up, local, remote, err := r.route(repo)
	if err != nil {
		return nil, err
	}
	rc, err := here(local)
	if up == nil || err != nil && !errors.Is(err, registry.ErrAbsent) {
		return rc, err
	}
	if image.IsManifestOrIndex(d.MediaType) {
		return r.manifest(ctx, up, local, remote, d, offset, rc)
	}
	if err == nil {
		return rc, nil
	}
	if d.Digest.Validate() != nil || d.Digest.Algorithm() != digest.SHA256 && d.Digest.Algorithm() != digest.SHA512 {
		return nil, err
	}
	f, err := r.fetch(up, local, remote, d)
	if err != nil {
		return nil, err
	}
	p := &passenger{ctx: ctx, f: f, offset: offset}
	// A registry that has not got it should be an error now, not in the middle of an answer.
	if err := f.begun(ctx); err != nil {
		p.Close()
		return nil, r.o.Failed(err)
	}
	return p, nil
}

// begun waits until there are bytes, or none will come.
func (f *flight) begun(ctx context.Context) error {
	for {
		f.mu.Lock()
		size, done, err, changed := f.size, f.done, f.err, f.changed
		f.mu.Unlock()
		if size > 0 || done {
			if size > 0 {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}
