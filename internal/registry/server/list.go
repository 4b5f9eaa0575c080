package server

import (
	"encoding/json"
	"iter"
	"net/http"
	"slices"
	"strings"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// catalog lists the repositories that the sender may know of.
func (s *Server) catalog(x *exchange) error {
	all := registry.Repos(x.ctx(), s.r, x.req.Last)
	names, err := s.page(x, func(yield func(string, error) bool) {
		for repo, err := range all {
			if err == nil && s.o.Visible != nil && !s.o.Visible(repo, x.http) {
				continue
			}
			if !yield(repo, err) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return sendJSON(x, "application/json", struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// listTags lists the tags of a repository.
func (s *Server) listTags(x *exchange) error {
	names, err := s.page(x, registry.Tags(x.ctx(), s.r, x.req.Repo, x.req.Last))
	if err != nil {
		return err
	}
	return sendJSON(x, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{x.req.Repo, names})
}

// page takes from a list what one answer holds, and links to the next if there is more.
// Of a page of none the spec wants no link.
func (s *Server) page(x *exchange, all iter.Seq2[string, error]) ([]string, error) {
	names := []string{}
	limit := s.o.MaxList
	if x.req.N >= 0 {
		limit = min(limit, x.req.N)
	}
	for name, err := range all {
		if err != nil {
			return nil, err
		}
		if len(names) == limit {
			if limit > 0 {
				next(x, names[limit-1])
			}
			break
		}
		names = append(names, name)
	}
	return names, nil
}

// next links to the rest of a list (RFC 8288).
func next(x *exchange, last string) {
	r := x.req
	r.Last = last
	_, target := Construct(r)
	x.header()["Link"] = []string{"<" + target + `>; rel="next"`}
}

// maxReferrers is how many bytes the descriptors of one page of referrers may have together:
// clients read no larger index.
const maxReferrers = image.MaxSize - 64<<10

// listReferrers lists what refers to a manifest, as an index. The pages are in order of digest.
func (s *Server) listReferrers(x *exchange) error {
	var found []registry.Descriptor
	for d, err := range registry.Referrers(x.ctx(), s.r, x.req.Repo, x.req.Digest) {
		if err != nil {
			if absent(err) {
				break // an unknown repository has no referrers
			}
			return err
		}
		if string(d.Digest) > x.req.Last && (len(x.req.Filters) == 0 || slices.Contains(x.req.Filters, d.ArtifactType)) {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b registry.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	if len(x.req.Filters) > 0 {
		x.header()["Oci-Filters-Applied"] = []string{"artifactType"}
	}
	page, err := s.pageOf(x, found)
	if err != nil {
		return err
	}
	return sendJSON(x, image.TypeIndex, struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []json.RawMessage `json:"manifests"`
	}{2, image.TypeIndex, page})
}

func (s *Server) pageOf(x *exchange, found []registry.Descriptor) ([]json.RawMessage, error) {
	page := []json.RawMessage{}
	limit := s.o.MaxList
	if x.req.N >= 0 {
		limit = min(limit, x.req.N)
	}
	size := 0
	for i, d := range found {
		data, err := image.Marshal(d)
		if err != nil {
			return nil, err
		}
		if size += len(data) + 1; i == limit || size > maxReferrers && i > 0 {
			if i > 0 {
				next(x, string(found[i-1].Digest))
			}
			break
		}
		page = append(page, data)
	}
	return page, nil
}

func sendJSON(x *exchange, mediaType string, v any) error {
	data, err := image.Marshal(v)
	if err != nil {
		return err
	}
	x.header()["Content-Type"] = []string{mediaType}
	if err := x.send(http.StatusOK, append(data, '\n')); err != nil {
		return err
	}
	return nil
}
