package build

import (
	"context"
	"io/fs"
	"os"
	"sync"

	"nacre/internal/layer"
	"nacre/internal/registry/store"
	"nacre/internal/rootfs"
)

// freshCache is a directory that stands for a cache in one build.
type freshCache struct {
	dir  string
	used sync.Mutex // by one step at a time, where it is not shared
}

// useFreshCache is store.UseCacheDir with a directory that no build before has written to.
func (s *solver) useFreshCache(ctx context.Context, o store.CacheDirOptions) (dir string, release func(), err error) {
	c, err := s.fresh.do(o.ID+"\x00"+o.Variant, func() (*freshCache, error) {
		dir, remove, err := s.Store.TempDir("cache")
		if err != nil {
			return nil, err
		}
		s.atEnd(remove)
		if o.Fill != nil {
			if err := o.Fill(dir); err != nil {
				return nil, err
			}
		}
		if err := rootfs.Chown(dir, o.UID, o.GID); err != nil {
			return nil, err
		}
		return &freshCache{dir: dir}, os.Chmod(dir, layer.FileMode(uint32(o.Mode))&^fs.ModeType)
	})
	if err != nil {
		return "", nil, err
	}
	if o.Sharing == "" || o.Sharing == store.SharingShared {
		return c.dir, func() {}, nil
	}
	c.used.Lock()
	return c.dir, c.used.Unlock, nil
}
