package server

import (
	"sync"

	"github.com/opencontainers/go-digest"
)

const (
	// cachedManifest is up to which size manifests are kept: those of nearly all images.
	cachedManifest = 64 << 10
	// cachedBytes bounds all of them together.
	cachedBytes = 8 << 20
)

// manifestCache keeps the bytes of manifests that were asked for lately. What a digest names never
// changes; whether a repository has it is asked of the registry each time.
//
// It has two generations: what is used moves to the young one, and when that is full
// the old one is dropped. So reading takes no more than a look.
type manifestCache struct {
	mu         sync.RWMutex
	young, old map[digest.Digest][]byte
	bytes      int // of the young
}

func newManifestCache() *manifestCache {
	return &manifestCache{young: map[digest.Digest][]byte{}}
}

func (c *manifestCache) get(d digest.Digest) ([]byte, bool) {
	c.mu.RLock()
	data, young := c.young[d]
	old, ok := c.old[d]
	c.mu.RUnlock()
	if !young && ok {
		c.put(d, old)
		return old, true
	}
	return data, young
}

func (c *manifestCache) put(d digest.Digest, data []byte) {
	if len(data) > cachedManifest {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes+len(data) > cachedBytes/2 {
		c.old, c.young, c.bytes = c.young, map[digest.Digest][]byte{}, 0
	}
	if _, ok := c.young[d]; !ok {
		c.bytes += len(data)
	}
	c.young[d] = data
}
