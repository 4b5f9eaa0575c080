package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// AddImages records n images without content, for measurements.
func AddImages(t testing.TB, s *Store, n int) {
	ctx := context.Background()
	err := s.update(ctx, func(tx querier) error {
		for i := range n {
			d := digest.FromString(fmt.Sprint("manifest", i))
			row := imageRow{
				desc: registry.Descriptor{MediaType: image.TypeManifest, Digest: d, Size: 1234},
				id:   digest.FromString(fmt.Sprint("config", i)), created: "2026-01-02T03:04:05.123456789Z", bytes: int64(i),
				platform: `{"architecture":"amd64","os":"linux"}`, labels: `{"maintainer":"someone","org.opencontainers.image.title":"an app"}`,
			}
			if err := s.insertImage(ctx, tx, row); err != nil {
				return err
			}
			for _, repo := range []string{"example.com/app", "docker.io/library/app"} {
				if err := s.insertName(ctx, tx, registry.Ref{Repo: repo, Tag: fmt.Sprint(i)}, d); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// AtPoints has f called wherever dying would leave something half done.
func AtPoints(s *Store, f func(what string)) { s.testOnlyPoint = f }

// SetStall has s wait no longer than d for an upload of another process that gets nothing.
func SetStall(s *Store, d time.Duration) { s.stall = d }

// SetDisk has s on a disk of that size, of which so much is free.
func SetDisk(s *Store, disk func() (size, free int64)) { s.testOnlyDisk = disk }

// CollectOne removes the first of what nothing needs, and tells whether there is more.
func CollectOne(ctx context.Context, s *Store) (gone Removed, more bool, err error) {
	gone, err = s.remove(ctx, func(tx querier, r *removal) (err error) {
		more, err = s.collectPart(ctx, tx, r, 0)
		return err
	})
	return gone, more, err
}
