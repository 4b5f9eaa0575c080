package remote

import (
	"net/url"
	"sync"

	"github.com/opencontainers/go-digest"

	"nacre/internal/registry"
)

// sessions are uploads that broke off, for later ones of the same content to go on with.
type sessions struct {
	mu sync.Mutex
	at map[content]*url.URL
}

// content is a blob of a repository.
type content struct {
	domain, repo string
	digest       digest.Digest
}

// maxSessions bounds what is remembered.
const maxSessions = 1000

func (s *sessions) put(p place, d digest.Digest, at *url.URL) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[content]*url.URL{}
	}
	if len(s.at) < maxSessions {
		s.at[content{p.domain, p.repo, d}] = at
	}
}

// take returns a session for the caller alone; nil: there is none.
func (s *sessions) take(p place, d digest.Digest) *url.URL {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := content{p.domain, p.repo, d}
	at := s.at[key]
	delete(s.at, key)
	return at
}

// recent keeps the bytes of manifests just sent, to be sent again under a tag.
type recent struct {
	mu    sync.Mutex
	bytes int
	order []content
	data  map[content]manifest
}

type manifest struct {
	mediaType string
	data      []byte
}

// maxRecent bounds them, in bytes.
const maxRecent = 16 << 20

func (r *recent) put(p place, d registry.Descriptor, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.data == nil {
		r.data = map[content]manifest{}
	}
	key := content{p.domain, p.repo, d.Digest}
	if _, ok := r.data[key]; ok {
		return
	}
	r.data[key] = manifest{d.MediaType, data}
	r.order = append(r.order, key)
	for r.bytes += len(data); r.bytes > maxRecent; r.order = r.order[1:] {
		r.bytes -= len(r.data[r.order[0]].data)
		delete(r.data, r.order[0])
	}
}

func (r *recent) get(p place, d digest.Digest) (manifest, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.data[content{p.domain, p.repo, d}]
	return m, ok
}

// drop forgets the bytes; the key stays in order, where it does no harm.
func (r *recent) drop(p place, d digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := content{p.domain, p.repo, d}
	r.bytes -= len(r.data[key].data)
	delete(r.data, key)
}
