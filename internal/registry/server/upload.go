package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"

	"nacre/internal/registry"
)

// startUpload begins an upload and says where it goes on.
func (s *Server) startUpload(x *exchange) error {
	algorithm := x.req.Algorithm
	if algorithm == "" && x.req.Digest != "" {
		algorithm = x.req.Digest.Algorithm() // it was to be mounted
	}
	up, err := s.sessions.create(x.req.Repo, algorithm)
	if err != nil {
		return err
	}
	if s.o.ChunkMin > 0 {
		x.header()["Oci-Chunk-Min-Length"] = []string{strconv.FormatInt(s.o.ChunkMin, 10)}
	}
	whereabouts(x, up, up.offset.Load())
	return x.send(http.StatusAccepted, nil)
}

// whereabouts says how far an upload is and where it goes on. An empty one
// says 0-0 too: the spec has no other form.
func whereabouts(x *exchange, up *session, offset int64) {
	h := x.header()
	location(h, Request{Kind: StatUpload, Repo: up.repo, Session: up.id})
	h["Range"] = []string{"0-" + strconv.FormatInt(max(0, offset-1), 10)}
	h["Docker-Upload-Uuid"] = []string{up.id}
}

// mountBlob takes a blob from another repository, if its sender may read that. Else, whatever
// the reason, an upload begins: so nobody learns what other repositories have.
func (s *Server) mountBlob(x *exchange) error {
	d, err := s.mount(x)
	if err != nil {
		return s.startUpload(x)
	}
	return s.created(x, d)
}

func (s *Server) mount(x *exchange) (registry.Descriptor, error) {
	from := Request{Kind: HeadBlob, Repo: x.req.From, Digest: x.req.Digest, N: -1}
	if from.Repo == "" || !s.mayRead(x, from) {
		return registry.Descriptor{}, registry.ErrAbsent
	}
	d, there, err := s.openBlob(x.ctx(), from.Repo, registry.Descriptor{Digest: x.req.Digest})
	if err != nil {
		return d, err
	}
	there.Close()
	if m, ok := s.r.(registry.Mounter); ok {
		return d, m.Mount(x.ctx(), x.req.Repo, from.Repo, d)
	}
	// One set of blobs for all repositories needs no mounting.
	ok, err := s.r.Has(x.ctx(), x.req.Repo, d)
	if err == nil && !ok {
		err = registry.ErrAbsent
	}
	return d, err
}

// created answers for a blob that is now in the repository, for good.
func (s *Server) created(x *exchange, d registry.Descriptor) error {
	x.describe(d)
	location(x.header(), Request{Kind: GetBlob, Repo: x.req.Repo, Digest: d.Digest})
	return x.send(http.StatusCreated, nil)
}

// postBlob is an upload in one request.
func (s *Server) postBlob(x *exchange) error {
	up, err := s.sessions.create(x.req.Repo, x.req.Digest.Algorithm())
	if err != nil {
		return err
	}
	defer s.sessions.forget(up, true)
	return s.finish(x, up)
}

// statUpload says how far an upload is.
func (s *Server) statUpload(x *exchange) error {
	up, size, err := s.sessions.find(x.req.Repo, x.req.Session)
	if err != nil {
		return err
	}
	whereabouts(x, up, size)
	x.WriteHeader(http.StatusNoContent)
	return nil
}

// appendUpload adds a chunk, or all that comes.
func (s *Server) appendUpload(x *exchange) error {
	up, _, err := s.sessions.find(x.req.Repo, x.req.Session)
	if err != nil {
		return err
	}
	f, unlock, err := up.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.receive(x, up, f); err != nil {
		return err
	}
	whereabouts(x, up, up.offset.Load())
	return x.send(http.StatusAccepted, nil)
}

// finishUpload adds the last chunk, if one is sent, and makes the whole a blob.
func (s *Server) finishUpload(x *exchange) error {
	up, _, err := s.sessions.find(x.req.Repo, x.req.Session)
	if err != nil {
		return err
	}
	return s.finish(x, up)
}

func (s *Server) finish(x *exchange, up *session) error {
	f, unlock, err := up.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.receive(x, up, f); err != nil {
		return err
	}
	if err := up.verify(f, x.req.Digest); err != nil {
		if errors.Is(err, registry.ErrDigest) {
			s.sessions.forget(up, true) // no more bytes would make it right
		}
		return err
	}
	d := registry.Descriptor{Digest: x.req.Digest, Size: up.offset.Load()}
	// What is whole is kept, even if the client has gone by now.
	if err := s.keep(context.WithoutCancel(x.ctx()), up, f, d); err != nil {
		if up.gone.Load() {
			return registry.ErrAbsent // cancelled meanwhile
		}
		return err
	}
	return s.created(x, d)
}

// receive adds what the request carries. Whatever ends it early, what came is kept, and the
// answer says how much that is.
func (s *Server) receive(x *exchange, up *session, f *os.File) error {
	chunk, err := parseChunk(x.http.Header["Content-Range"], x.http.ContentLength)
	if err != nil {
		return err
	}
	offset := up.offset.Load()
	if chunk.ranged && chunk.first != offset {
		whereabouts(x, up, up.offset.Load())
		return withStatus(http.StatusRequestedRangeNotSatisfiable,
			Errorf(CodeUploadInvalid, "the chunk begins at %d, and the upload goes on at %d", chunk.first, offset))
	}
	if x.http.ContentLength == 0 && !chunk.ranged {
		return nil
	}
	if s.o.MaxBlob > 0 && chunk.length > s.o.MaxBlob-offset {
		return errTooLarge("the blob", s.o.MaxBlob)
	}
	free, err := s.write()
	if err != nil {
		return err
	}
	defer free()
	if err := s.receiveChunk(x, up, f, chunk); err != nil {
		whereabouts(x, up, up.offset.Load())
		return brokenOff(err)
	}
	if up.gone.Load() {
		return registry.ErrAbsent // cancelled meanwhile
	}
	return nil
}

func (s *Server) receiveChunk(x *exchange, up *session, f *os.File, c chunk) error {
	body, offset := x.content(), up.offset.Load()
	limit := c.length
	if limit < 0 && s.o.MaxBlob > 0 {
		limit = s.o.MaxBlob - offset
	}
	if limit < 0 {
		return up.receive(f, body)
	}
	if err := up.receive(f, io.LimitReader(body, limit)); err != nil {
		return err
	}
	if n := up.offset.Load() - offset; c.length >= 0 && n < c.length {
		return Errorf(CodeSizeInvalid, "%d bytes came, not %d", n, c.length)
	}
	switch n, err := body.Read(make([]byte, 1)); {
	case n == 0 && (err == io.EOF || err == nil):
		return nil
	case n == 0:
		return err
	case c.length >= 0:
		return Errorf(CodeSizeInvalid, "more than %d bytes came", c.length)
	}
	return errTooLarge("the blob", s.o.MaxBlob)
}

// keep makes the file of a session the blob d.
func (s *Server) keep(ctx context.Context, up *session, f *os.File, d registry.Descriptor) error {
	if a, ok := s.r.(registry.Adopter); ok {
		if err := f.Sync(); err != nil {
			return err
		}
		if err := a.Adopt(ctx, up.repo, d, up.path); err != nil {
			return err
		}
		return s.sessions.forget(up, false)
	}
	dst, err := s.r.Create(ctx, up.repo, d)
	if err != nil {
		return err
	}
	defer dst.Cancel()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.CopyN(dst, f, d.Size); err != nil {
		return err
	}
	if err := dst.Commit(); err != nil {
		return err
	}
	return s.sessions.forget(up, true)
}

// cancelUpload throws an upload away. A request that still writes to it will be told.
func (s *Server) cancelUpload(x *exchange) error {
	up, _, err := s.sessions.find(x.req.Repo, x.req.Session)
	if err != nil {
		return err
	}
	if err := s.sessions.forget(up, true); err != nil {
		return err
	}
	x.WriteHeader(http.StatusNoContent)
	return nil
}
