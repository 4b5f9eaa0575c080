package build

import (
	"bytes"
	"context"
	"io"

	"nacre/internal/event"
	"nacre/internal/image"
	"nacre/internal/registry"
)

// Output is one more thing that is made of a finished build, besides the image in the store.
type Output struct {
	Name  string // "exporting to oci archive x.tar"
	Write func(ctx context.Context, r Result) error
	// Remote: the output does with the names and digests of layers, and what r.Reader has of them where they are.
	Remote bool
}

// assembled reads the image that was built, wherever it is not in the store.
type assembled struct {
	image.Assembled
	registry.Reader // the store, which has the layers, and where the others are
}

func (a assembled) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	if ref.Digest == a.ManifestDesc.Digest {
		return a.ManifestDesc, nil
	}
	return a.Reader.Resolve(ctx, ref)
}

func (a assembled) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	switch d.Digest {
	case a.ManifestDesc.Digest:
		return io.NopCloser(bytes.NewReader(a.Manifest)), nil
	case a.ConfigDesc.Digest:
		return io.NopCloser(bytes.NewReader(a.Config)), nil
	}
	return a.Reader.Open(ctx, repo, d)
}

// outputs writes what was asked for besides the image.
func (s *solver) outputs(ctx context.Context, r Result) error {
	for _, o := range s.o.Outputs {
		done := s.begin(event.Step{ID: s.nextStep(), Name: o.Name})
		if err := done(event.Done{}, o.Write(ctx, r)); err != nil {
			return err
		}
	}
	return nil
}
