package server

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// putManifest stores a manifest byte for byte, and names it.
func (s *Server) putManifest(x *exchange) error {
	free, err := s.write()
	if err != nil {
		return err
	}
	defer free()
	data, err := s.readManifest(x)
	if err != nil {
		return err
	}
	d := registry.Descriptor{Digest: x.req.Digest, Size: int64(len(data))}
	if d.MediaType, err = manifestType(x.http.Header.Get("Content-Type"), data); err != nil {
		return err
	}
	if d.Digest == "" {
		d.Digest = digest.FromBytes(data)
	} else if got := d.Digest.Algorithm().FromBytes(data); got != d.Digest {
		return Errorf(CodeDigestInvalid, "the manifest has the digest %s", got)
	}
	if err := s.checkRefers(x, d, data); err != nil {
		return err
	}
	if err := s.storeManifest(x, d, data); err != nil {
		return err
	}
	x.describe(d)
	h := x.header()
	if subject, _ := registry.Subject(d, data); subject != "" {
		h["Oci-Subject"] = []string{string(subject)}
	}
	if len(x.req.Tags) > 0 {
		h["Oci-Tag"] = []string{strings.Join(x.req.Tags, ", ")}
	}
	location(h, Request{Kind: GetManifest, Repo: x.req.Repo, Tag: x.req.Tag, Digest: x.req.Digest})
	return x.send(http.StatusCreated, nil)
}

func (s *Server) readManifest(x *exchange) ([]byte, error) {
	limit := s.o.MaxManifest
	if x.http.ContentLength > limit {
		return nil, errTooLarge("the manifest", limit)
	}
	data, err := io.ReadAll(io.LimitReader(x.content(), limit+1))
	if err != nil {
		return nil, brokenOff(err)
	}
	if int64(len(data)) > limit {
		return nil, errTooLarge("the manifest", limit)
	}
	return data, nil
}

// manifestType is the media type of a manifest that came under a Content-Type. One that
// says nothing is told by the manifest; two that differ are an error.
func manifestType(contentType string, data []byte) (string, error) {
	if err := checkDepth(data); err != nil {
		return "", err
	}
	is, err := image.MediaTypeOf(data)
	if err != nil {
		return "", Errorf(CodeManifestInvalid, "%v", err)
	}
	if contentType == "" {
		return is, nil
	}
	said, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "", Errorf(CodeManifestInvalid, "the content type %.200q cannot be read", contentType)
	}
	switch said {
	case is, "application/json", "application/octet-stream":
		return is, nil
	case image.TypeManifest, image.TypeDockerManifest, image.TypeIndex, image.TypeDockerIndex:
		return "", Errorf(CodeManifestInvalid, "the manifest is %s, and was sent as %s", is, said)
	}
	return "", Errorf(CodeManifestInvalid, "%.200q is not the type of a manifest", said)
}

// maxDepth is how deep the JSON of a manifest may nest; that of the specs does less than ten.
const maxDepth = 64

// checkDepth refuses JSON that nests so deep that reading it costs more than it is worth. Whether it is
// JSON at all is seen later.
func checkDepth(data []byte) error {
	depth, text := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return Errorf(CodeManifestInvalid, "the manifest nests deeper than %d", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// checkRefers refuses a manifest that refers to what is not there. Its subject may be
// absent, and layers that are fetched from elsewhere.
func (s *Server) checkRefers(x *exchange, d registry.Descriptor, data []byte) error {
	children, err := registry.Refers(d, data)
	if err != nil || s.o.Sparse {
		return err
	}
	var missing []digest.Digest
	checked := map[digest.Digest]bool{}
	for _, c := range children {
		if checked[c.Digest] || registry.MayLack(c) {
			continue
		}
		checked[c.Digest] = true
		ok, err := s.has(x.ctx(), x.req.Repo, c)
		if err != nil {
			return err
		}
		if !ok {
			missing = append(missing, c.Digest)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	e := Errorf(CodeManifestBlobUnknown, "the manifest refers to %d parts that are not in this repository", len(missing))
	e.Detail = map[string][]digest.Digest{"missing": missing[:min(len(missing), 20)]}
	return e
}

// has tells whether a part of a manifest is there. One whose size is another one's is not.
func (s *Server) has(ctx context.Context, repo string, d registry.Descriptor) (bool, error) {
	ok, err := s.r.Has(ctx, repo, d)
	if errors.Is(err, registry.ErrAbsent) || errors.Is(err, registry.ErrUnsupported) || errors.Is(err, registry.ErrInvalid) {
		return false, nil
	}
	return ok, err
}

// storeManifest makes the manifest part of the repository, under its tags.
func (s *Server) storeManifest(x *exchange, d registry.Descriptor, data []byte) error {
	ctx, repo := x.ctx(), x.req.Repo
	up, err := s.r.Create(ctx, repo, d)
	if err != nil {
		return err
	}
	defer up.Cancel()
	if _, err := up.Write(data); err != nil {
		return err
	}
	if err := up.Commit(); err != nil {
		return err
	}
	if err := s.r.Tag(ctx, x.req.ref(), d); err != nil {
		return err
	}
	for _, tag := range x.req.Tags {
		if err := s.r.Tag(ctx, registry.Ref{Repo: repo, Tag: tag}, d); err != nil {
			return err
		}
	}
	return nil
}
