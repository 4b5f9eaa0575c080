package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"nacre/internal/registry"
)

// maxSmall is the size of what is kept in memory until all of it is there, so that it can be sent again: manifests among others, which
// registry.Copy sends once.
const maxSmall = 1 << 20

// small is an upload of a few bytes.
type small struct {
	ctx   context.Context
	b     *Bucket
	key   string
	d     registry.Descriptor
	check *registry.Checker
	data  bytes.Buffer
	ended bool
}

func (u *small) Write(p []byte) (int, error) {
	if _, err := u.check.Write(p); err != nil {
		return 0, err
	}
	return u.data.Write(p)
}

// Commit implements registry.Upload.
func (u *small) Commit() error {
	if u.ended {
		return fmt.Errorf("%s: the upload has ended", u.key)
	}
	u.ended = true
	if err := u.check.Check(); err != nil {
		return err
	}
	return u.b.putAll(u.ctx, u.key, u.d.Digest.Encoded(), u.data.Bytes())
}

// Cancel implements registry.Upload.
func (u *small) Cancel() error {
	u.ended = true
	return nil
}

// putAll sends an object, more than once if need be.
func (b *Bucket) putAll(ctx context.Context, key, sum string, data []byte) error {
	for n := 1; ; n++ {
		err := b.put(ctx, key, sum, int64(len(data)), bytes.NewReader(data))
		if n == attempts || !errors.Is(err, registry.ErrBroken) {
			return err
		}
		select {
		case <-time.After(b.wait(n)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
