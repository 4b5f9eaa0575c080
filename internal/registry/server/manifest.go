package server

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"nacre/internal/registry"
)

func (r Request) ref() registry.Ref {
	return registry.Ref{Repo: r.Repo, Tag: r.Tag, Digest: r.Digest}
}

// resolve finds the manifest that x is about.
func (s *Server) resolve(x *exchange) (registry.Descriptor, error) {
	d, err := s.r.Resolve(x.ctx(), x.req.ref())
	if err != nil && absent(err) {
		err = registry.ErrAbsent // something else than a manifest is no manifest
	}
	return d, err
}

// getManifest sends a manifest as it was stored. Accept headers change nothing: a manifest is
// never converted, and a client that wants another kind sees by Content-Type what it got.
func (s *Server) getManifest(x *exchange) error {
	d, err := s.resolve(x)
	if err != nil {
		return err
	}
	if s.describeManifest(x, d) {
		return x.send(http.StatusNotModified, nil)
	}
	data, err := s.manifest(x, d)
	if err != nil {
		return err
	}
	return x.send(http.StatusOK, data)
}

func (s *Server) headManifest(x *exchange) error {
	d, err := s.resolve(x)
	if err == nil && d.Size == 0 {
		d.Size, err = s.sizeOf(x.ctx(), x.req.Repo, d)
	}
	if err != nil {
		return err
	}
	if s.describeManifest(x, d) {
		return x.send(http.StatusNotModified, nil)
	}
	setLength(x.header(), d.Size)
	x.WriteHeader(http.StatusOK)
	return nil
}

// describeManifest sets the headers of a manifest, and tells whether the client has it already.
func (s *Server) describeManifest(x *exchange, d registry.Descriptor) (known bool) {
	x.describe(d)
	etag := `"` + string(d.Digest) + `"`
	h := x.header()
	h["Etag"] = []string{etag}
	for _, list := range x.http.Header["If-None-Match"] {
		for one := range strings.SplitSeq(list, ",") {
			if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == etag || one == "*" {
				return true
			}
		}
	}
	h["Content-Type"] = []string{cmp.Or(d.MediaType, "application/octet-stream")}
	return false
}

// manifest returns the bytes of d. They are verified when read: what is damaged is not sent.
func (s *Server) manifest(x *exchange, d registry.Descriptor) ([]byte, error) {
	if data, ok := s.manifests.get(d.Digest); ok {
		return data, nil
	}
	rc, err := s.r.Open(x.ctx(), x.req.Repo, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	data, err := registry.ReadAll(rc, s.o.MaxManifest)
	if err != nil {
		// It was promised, and it is not the client that is wrong.
		return nil, &Error{Code: CodeUnknown, Message: "the manifest cannot be read", Err: err}
	}
	s.manifests.put(d.Digest, data)
	return data, nil
}

// deleteManifest removes a tag, or a manifest with all its tags.
func (s *Server) deleteManifest(x *exchange) error {
	d, err := s.resolve(x)
	if err != nil {
		return err
	}
	x.desc = d
	if x.req.Tag != "" {
		err = s.r.Untag(x.ctx(), x.req.ref())
	} else {
		err = s.r.Delete(x.ctx(), x.req.Repo, x.req.Digest)
	}
	if err != nil {
		return err
	}
	return x.send(http.StatusAccepted, nil)
}

// isManifest tells whether d is a manifest of repo.
func (s *Server) isManifest(x *exchange, d digest.Digest) bool {
	_, err := s.r.Resolve(x.ctx(), registry.Ref{Repo: x.req.Repo, Digest: d})
	return err == nil
}
