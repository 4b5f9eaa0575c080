package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"time"

	"nacre/internal/event"
	"nacre/internal/image"
)

const (
	// chunk is how much an Upload that reads for itself is given at once; in between, progress
	// is told and the context looked at.
	chunk = 8 << 20
	// bufferSize is that of copies through memory.
	bufferSize = 256 << 10
	// progressEvery spares the sink: more is not seen by any eye.
	progressEvery = 50 * time.Millisecond
	// attempts is how often a blob is sent that breaks off where it cannot go on. Those who
	// implement uploads go on by themselves where that is possible.
	attempts = 4
)

// CopyBlob copies one blob of a repository of src to one of dst, unless that has it, as Copy would. Errors: those of Copy.
func CopyBlob(ctx context.Context, dst Writer, to string, src Reader, from string, d Descriptor, o CopyOptions) error {
	if err := CheckDescriptor(d); err != nil {
		return err
	}
	return newTransfer(dst, Ref{Repo: to}, src, Ref{Repo: from}, o).sendBlob(ctx, d)
}

// sendBlob copies one blob unless dst has it.
func (t *transfer) sendBlob(ctx context.Context, d Descriptor) error {
	return t.step(d, func(s *step) (err error) {
		defer func() {
			// That another blob failed, which ended this one, is told there.
			if err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
				err = ctx.Err()
			}
		}()
		if ok, err := t.dst.Has(ctx, t.dstRepo, d); err != nil || ok {
			s.cached = ok
			return err
		}
		if from, err := t.mount(ctx, d); err != nil || from != "" {
			s.cached, s.note = err == nil, "mounted from "+from
			return err
		}
		err = t.fetch(ctx, d, s, true)
		if s.offset > 0 && damaged(err) {
			// What was kept of an earlier upload was not the beginning of d.
			err = t.fetch(ctx, d, s, false)
		}
		for n := 1; n < attempts && errors.Is(err, ErrBroken) && ctx.Err() == nil; n++ {
			err = t.fetch(ctx, d, s, true)
		}
		return err
	})
}

// damaged tells whether content was refused for what it is.
func damaged(err error) bool {
	return errors.Is(err, ErrDigest) || errors.Is(err, ErrSize) || errors.Is(err, ErrInvalid)
}

// maxMounts bounds in how many repositories a blob is looked for: each costs a request.
const maxMounts = 2

// mount takes d from another repository of dst, where that can be had, and says which.
func (t *transfer) mount(ctx context.Context, d Descriptor) (from string, err error) {
	m, ok := t.dst.(Mounter)
	if !ok {
		return "", nil
	}
	var repos []string
	if reflect.TypeOf(t.dst).Comparable() && any(t.dst) == any(t.src) {
		repos = append(repos, t.srcRepo)
	}
	if t.o.MountFrom != nil {
		repos = append(repos, t.o.MountFrom(d)...)
	}
	repos = slices.DeleteFunc(repos, func(repo string) bool { return repo == t.dstRepo })
	for _, repo := range repos[:min(len(repos), maxMounts)] {
		err := m.Mount(ctx, t.dstRepo, repo, d)
		if err == nil || !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrAbsent) {
			return repo, err
		}
	}
	return "", nil
}

// fetch uploads d as it is read; with resume, after what the upload already has.
func (t *transfer) fetch(ctx context.Context, d Descriptor, s *step, resume bool) error {
	// Creating may wait for another process that receives the same: no connection waits with it.
	up, err := t.dst.Create(ctx, t.dstRepo, d)
	if err != nil {
		return err
	}
	defer up.Cancel()
	s.offset, s.sent = 0, 0
	if r, ok := up.(Resumer); ok && resume {
		s.offset = r.Offset()
	}
	if s.offset > 0 && s.offset == d.Size {
		return up.Commit()
	}
	if s.offset > 0 {
		s.tell(time.Now()) // so that the rate is not taken to include it
	}
	rc, err := t.open(ctx, d, s.offset)
	if errors.Is(err, ErrAbsent) && MayLack(d) {
		s.note = "left where it is: " + d.URLs[0]
		return nil
	}
	if err != nil {
		return err
	}
	defer rc.Close()
	var r io.Reader = rc
	switch rc := rc.(type) {
	case *vouched:
		r = sound{rc.file}
	case Raw:
		r = rc.Raw() // Commit verifies: once is enough
	}
	if err := pump(ctx, up, r, s.progress); err != nil {
		return err
	}
	return up.Commit()
}

func (t *transfer) open(ctx context.Context, d Descriptor, offset int64) (io.ReadCloser, error) {
	if offset == 0 {
		return t.src.Open(ctx, t.srcRepo, d)
	}
	return OpenAt(ctx, t.src, t.srcRepo, d, offset)
}

// sendManifest uploads a manifest unless dst has it.
func (t *transfer) sendManifest(ctx context.Context, m manifest) error {
	return t.step(m.Descriptor, func(s *step) error {
		if ok, err := t.dst.Has(ctx, t.dstRepo, m.Descriptor); err != nil || ok {
			s.cached = ok
			return err
		}
		return t.upload(ctx, m.Descriptor, bytes.NewReader(m.data), s)
	})
}

func (t *transfer) upload(ctx context.Context, d Descriptor, r io.Reader, s *step) error {
	up, err := t.dst.Create(ctx, t.dstRepo, d)
	if err != nil {
		return err
	}
	defer up.Cancel()
	if err := pump(ctx, up, r, s.progress); err != nil {
		return err
	}
	return up.Commit()
}

// pump copies r to up, telling how far it is.
func pump(ctx context.Context, up Upload, r io.Reader, progress func(int64)) error {
	var next func() (int64, error)
	if rf, ok := up.(io.ReaderFrom); ok {
		next = func() (int64, error) {
			n, err := rf.ReadFrom(io.LimitReader(r, chunk))
			if err == nil && n < chunk {
				err = io.EOF
			}
			return n, err
		}
	} else {
		buf := make([]byte, bufferSize)
		next = func() (int64, error) {
			n, err := r.Read(buf)
			if _, werr := up.Write(buf[:n]); werr != nil {
				return int64(n), werr
			}
			return int64(n), err
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := next()
		progress(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// step is one blob's way, as it is told to the sink.
type step struct {
	id     int
	d      Descriptor
	sink   event.Sink
	sent   int64
	offset int64 // what was there already
	told   time.Time
	cached bool
	note   string
}

// step runs f as a step of its own.
func (t *transfer) step(d Descriptor, f func(*step) error) error {
	s := &step{id: t.id(), d: d, sink: t.o.Sink, told: time.Now(), note: d.Digest.String()}
	s.sink(event.Started{Step: event.Step{ID: s.id, Name: kind(d) + " " + short(d)}, Time: s.told})
	err := f(s)
	done := event.Done{ID: s.id, Time: time.Now(), Cached: s.cached, Size: s.sent, Note: s.note}
	if err != nil {
		err = fmt.Errorf("%s %s: %w", kind(d), d.Digest, err)
		done.Err = err
	}
	s.sink(done)
	return err
}

func (t *transfer) id() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.o.Step()
}

func (s *step) progress(n int64) {
	s.sent += n
	if now := time.Now(); now.Sub(s.told) >= progressEvery {
		s.tell(now)
	}
}

func (s *step) tell(now time.Time) {
	s.told = now
	s.sink(event.Progress{ID: s.id, Time: now, Item: s.d.Digest.String(), Current: s.offset + s.sent, Total: s.d.Size, Unit: "B"})
}

func kind(d Descriptor) string {
	switch {
	case image.IsLayer(d.MediaType):
		return "layer"
	case image.IsConfig(d.MediaType):
		return "config"
	case image.IsIndex(d.MediaType):
		return "index"
	case image.IsManifest(d.MediaType):
		return "manifest"
	}
	return "blob"
}

// short is the digest as people recognize it: 12 digits.
func short(d Descriptor) string {
	hex := d.Digest.Encoded()
	return hex[:min(12, len(hex))]
}
