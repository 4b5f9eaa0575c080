package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// indexed puts an index called name of an image for each platform. All have layer "shared", and each one of its own.
func indexed(t *testing.T, s *store.Store, name string, platforms ...platform) (store.Image, []image.Descriptor) {
	t.Helper()
	ctx := t.Context()
	shared := made(t, s, nil, "shared")
	x := image.Index{MediaType: image.TypeIndex}
	x.SchemaVersion = 2
	for i, p := range platforms {
		own := made(t, s, nil, image.FormatPlatform(p))
		cfg := config(i+1, shared, own)
		cfg.Platform = p
		as := assemble(t, cfg, shared, own)
		if _, err := s.PutBlob(ctx, image.TypeConfig, as.Config); err != nil {
			t.Fatal(err)
		}
		d, err := s.PutBlob(ctx, image.TypeManifest, as.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		d.Platform = &p
		x.Manifests = append(x.Manifests, d)
	}
	data, err := image.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.PutBlob(ctx, image.TypeIndex, data)
	if err == nil {
		err = s.Tag(ctx, registrytest.Ref(name), d)
	}
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Lookup(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	return img, x.Manifests
}

func TestVariants(t *testing.T) {
	s := open(t)
	ctx := t.Context()
	img, manifests := indexed(t, s, "multi", defaultPlatform, otherPlatform)
	plain := put(t, s, 9, []string{"plain"}, made(t, s, nil, "shared"))
	trees, err := s.Trees(ctx, []store.Image{img, plain})
	if err != nil {
		t.Fatal(err)
	}
	both := trees[0].Variants
	if len(both) != 2 || both[0].Target.Digest != manifests[0].Digest || both[0].ID != img.ID || !both[1].Present || both[0].Size != img.Size || both[0].Content < both[0].Size {
		t.Errorf("%+v", both)
	}
	if both[0].Disk <= 0 || both[0].Disk >= trees[0].Disk || trees[0].Disk >= both[0].Disk+both[1].Disk {
		t.Errorf("%d and %d of %d on disk: what they share counts once", both[0].Disk, both[1].Disk, trees[0].Disk)
	}
	if one := trees[1].Variants; len(one) != 1 || one[0].ID != plain.ID || one[0].Size != plain.Size || one[0].Disk != trees[1].Disk || !one[0].Present {
		t.Errorf("%+v", trees[1])
	}
}

// TestTreesGone: what was removed since it was listed is no error.
func TestTreesGone(t *testing.T) {
	s := open(t)
	ctx := t.Context()
	img, manifests := indexed(t, s, "multi", defaultPlatform, otherPlatform)
	l, err := s.Lease(ctx)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := s.PutImage(ctx, l, assemble(t, config(9)), refs("plain"))
	if err == nil {
		err = l.Release()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Remove(ctx, "plain", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RemoveVariant(ctx, img, manifests[1].Digest, func(store.ContainerRow) bool { return false }); err != nil {
		t.Fatal(err)
	}
	trees, err := s.Trees(ctx, []store.Image{plain, img})
	if err != nil || len(trees) != 1 || !trees[0].Variants[0].Present || trees[0].Variants[1].Present {
		t.Errorf("%+v, %v", trees, err)
	}
	if err := os.Remove(filepath.Join(s.LayerDir(digest.FromString("")), "..", "..", "blobs", "sha256", img.Target.Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	if trees, err := s.Trees(ctx, []store.Image{img}); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("of an image that is damaged: %+v, %v", trees, err)
	}
}

func TestRemoveVariant(t *testing.T) {
	third := platform{OS: "linux", Architecture: "s390x"}
	nobody := func(store.ContainerRow) bool { return false }
	for _, c := range []struct {
		title string
		from  func(t *testing.T, s *store.Store, img store.Image, m []image.Descriptor) (digest.Digest, func(store.ContainerRow) bool)
		err   error
		text  string
	}{
		{title: "one of three", from: func(_ *testing.T, _ *store.Store, _ store.Image, m []image.Descriptor) (digest.Digest, func(store.ContainerRow) bool) {
			return m[1].Digest, nobody
		}},
		{title: "this machine's", from: func(_ *testing.T, _ *store.Store, _ store.Image, m []image.Descriptor) (digest.Digest, func(store.ContainerRow) bool) {
			return m[0].Digest, nobody
		}},
		{title: "gone already", err: registry.ErrAbsent, from: func(t *testing.T, s *store.Store, img store.Image, m []image.Descriptor) (digest.Digest, func(store.ContainerRow) bool) {
			if _, err := s.RemoveVariant(t.Context(), img, m[1].Digest, nobody); err != nil {
				t.Fatal(err)
			}
			return m[1].Digest, nobody
		}},
		{title: "the last", err: store.ErrInUse, text: "nothing would be left", from: func(t *testing.T, s *store.Store, img store.Image, m []image.Descriptor) (digest.Digest, func(store.ContainerRow) bool) {
			for _, d := range m[1:] {
				if _, err := s.RemoveVariant(t.Context(), img, d.Digest, nobody); err != nil {
					t.Fatal(err)
				}
			}
			return m[0].Digest, nobody
		}},
		{title: "an image of its own", err: store.ErrInUse, text: "has it, too", from: func(t *testing.T, s *store.Store, _ store.Image, m []image.Descriptor) (digest.Digest, func(store.ContainerRow) bool) {
			if err := s.Tag(t.Context(), registrytest.Ref("own"), m[1]); err != nil {
				t.Fatal(err)
			}
			return m[1].Digest, nobody
		}},
		{title: "of another index", err: store.ErrInUse, text: "has it, too", from: func(t *testing.T, s *store.Store, _ store.Image, m []image.Descriptor) (digest.Digest, func(store.ContainerRow) bool) {
			indexed(t, s, "two", defaultPlatform, otherPlatform)
			return m[1].Digest, nobody
		}},
		{title: "held", err: store.ErrInUse, text: "another process", from: func(t *testing.T, s *store.Store, _ store.Image, m []image.Descriptor) (digest.Digest, func(store.ContainerRow) bool) {
			if ok, err := s.Has(t.Context(), "", m[1]); err != nil || !ok {
				t.Fatal(ok, err)
			}
			return m[1].Digest, nobody
		}},
		{title: "used by a container", err: store.ErrInUse, text: "container 0123", from: func(t *testing.T, s *store.Store, img store.Image, m []image.Descriptor) (digest.Digest, func(store.ContainerRow) bool) {
			containerOn(t, s, img)
			return m[1].Digest, func(c store.ContainerRow) bool { return c.Name == "web" }
		}},
		{title: "not by the container there is", from: func(t *testing.T, s *store.Store, img store.Image, m []image.Descriptor) (digest.Digest, func(store.ContainerRow) bool) {
			containerOn(t, s, img)
			return m[1].Digest, nobody
		}},
	} {
		t.Run(c.title, func(t *testing.T) {
			s := open(t)
			ctx := t.Context()
			img, manifests := indexed(t, s, "multi", defaultPlatform, otherPlatform, third)
			d, uses := c.from(t, s, img, manifests)
			deleted, err := s.RemoveVariant(ctx, img, d, uses)
			if c.err != nil {
				if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("error %v, want %v with %q", err, c.err, c.text)
				}
				wantSound(t, s)
				return
			}
			if err != nil || len(deleted) != 2 || deleted[0] != d || has(t, s, deleted[1]) {
				t.Fatalf("deleted %v, %v; want %s and its layer", deleted, err, d)
			}
			now, err := s.Lookup(ctx, "multi")
			if err != nil || now.Target.Digest != img.Target.Digest || (now.ID == img.ID) != (d != manifests[0].Digest) {
				t.Errorf("the image is %+v, %v", now, err)
			}
			if ok, err := s.Has(ctx, "", image0(d)); ok || err != nil {
				t.Errorf("%s is there: %v, %v", d, ok, err)
			}
			wantSound(t, s)
		})
	}
	s := open(t)
	plain := put(t, s, 1, []string{"plain"})
	if _, err := s.RemoveVariant(t.Context(), plain, plain.Target.Digest, nobody); !errors.Is(err, store.ErrInUse) {
		t.Errorf("of an image that is no index: %v", err)
	}
}

func containerOn(t *testing.T, s *store.Store, img store.Image) {
	t.Helper()
	dir, done, err := s.TempDir("container")
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	row := store.ContainerRow{ID: strings.Repeat("0123", 16), Name: "web", Image: img.Target.Digest, Created: time.Now()}
	if err := s.AddContainer(t.Context(), row, dir); err != nil {
		t.Fatal(err)
	}
}

// TestLastTagged: the time is that of the last name, and zero without one.
func TestLastTagged(t *testing.T) {
	at := time.Date(2026, 5, 6, 7, 8, 9, 10, time.UTC)
	s, err := store.Open(t.Context(), t.TempDir(), store.Options{Clock: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	img := put(t, s, 1, nil)
	if got, err := s.LastTagged(t.Context(), img); !got.IsZero() || err != nil {
		t.Errorf("without a name: %v, %v", got, err)
	}
	put(t, s, 1, []string{"a"})
	want := at
	at = at.Add(time.Hour)
	if got, err := s.LastTagged(t.Context(), img); !got.Equal(want) || err != nil {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if err := s.Tag(t.Context(), registrytest.Ref("b"), img.Target); err != nil {
		t.Fatal(err)
	}
	if got, err := s.LastTagged(t.Context(), img); !got.Equal(at) || err != nil {
		t.Errorf("%v, %v; want %v", got, err, at)
	}
}
