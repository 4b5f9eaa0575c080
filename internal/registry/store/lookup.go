package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Lookup finds an image by name, by ID or manifest digest, or by the beginning
// of either. As docker does, a name comes before the beginning of an ID, and 64 hex
// digits are always an ID.
//
// Errors: registry.ErrAbsent; ErrAmbiguous, naming the images that fit.
func (s *Store) Lookup(ctx context.Context, nameOrID string) (Image, error) {
	img, _, err := s.meant(ctx, s.db, nameOrID)
	return img, err
}

// found is what a name or ID means.
type found struct {
	// images, at least one: what was meant comes first; others have the same
	// config in another manifest (layers compressed otherwise).
	images []Image
	ref    registry.Ref // the name it was found by; zero: by ID
}

func (s *Store) find(ctx context.Context, q querier, nameOrID string) (found, error) {
	img, ref, err := s.meant(ctx, q, nameOrID)
	if err != nil {
		return found{}, err
	}
	images, err := s.twins(ctx, q, img)
	return found{images, ref}, err
}

// meant is the image that a name or ID means, and the name it was found by.
func (s *Store) meant(ctx context.Context, q querier, nameOrID string) (Image, registry.Ref, error) {
	if !isFullID(nameOrID) {
		ref, err := registry.ParseRef(nameOrID)
		if err == nil {
			img, err := s.byRef(ctx, q, ref)
			if err == nil {
				return img, ref, nil
			}
			if !errors.Is(err, registry.ErrAbsent) || ref.Digest != "" {
				return Image{}, ref, err
			}
		} else if algorithms, hex := splitID(nameOrID); len(algorithms) == 0 || !isHex(hex) {
			return Image{}, ref, err
		}
	}
	images, err := s.byPrefix(ctx, q, nameOrID)
	if err != nil {
		return Image{}, registry.Ref{}, err
	}
	return images[0], registry.Ref{}, nil
}

// twins returns img and after it the other images with its ID.
func (s *Store) twins(ctx context.Context, q querier, img Image) ([]Image, error) {
	others, err := s.images(ctx, q, "id = ? AND image.digest <> ?", img.ID, img.Target.Digest)
	return append([]Image{img}, others...), err
}

func isFullID(s string) bool {
	algorithms, hex := splitID(s)
	for _, a := range algorithms {
		if len(hex) == a.Size()*2 && isHex(hex) {
			return true
		}
	}
	return false
}

// splitID returns what the beginning of an ID may be by, and its digits.
func splitID(s string) (by []digest.Algorithm, hex string) {
	name, hex, ok := strings.Cut(s, ":")
	if !ok {
		return []digest.Algorithm{digest.SHA256, digest.SHA512}, s
	}
	if a := digest.Algorithm(name); a == digest.SHA256 || a == digest.SHA512 {
		by = append(by, a)
	}
	return by, hex
}

// byRef finds what a name means. A digest decides, where there is one.
func (s *Store) byRef(ctx context.Context, q querier, ref registry.Ref) (Image, error) {
	var images []Image
	var err error
	if ref.Digest != "" {
		images, err = s.images(ctx, q, "image.digest = ?1 OR id = ?1 OR image.digest IN (SELECT target FROM name WHERE name.digest = ?1)", ref.Digest)
	} else {
		images, err = s.images(ctx, q, "image.digest = (SELECT target FROM name WHERE repo = ? AND tag = ? AND digest = '')", ref.Repo, ref.Tag)
	}
	if err == nil && len(images) == 0 {
		err = fmt.Errorf("image %s: %w", ref.Familiar(), registry.ErrAbsent)
	}
	if err != nil {
		return Image{}, err
	}
	return images[0], nil
}

// byPrefix finds the images of the one ID that begins with prefix, newest first; where no
// ID does, the image whose manifest's digest does.
func (s *Store) byPrefix(ctx context.Context, q querier, prefix string) ([]Image, error) {
	algorithms, hex := splitID(prefix)
	if !isHex(hex) || len(hex) > digest.SHA512.Size()*2 {
		return nil, fmt.Errorf("image %s: %w", prefix, registry.ErrAbsent)
	}
	for _, column := range []string{"id", "image.digest"} {
		var where []string
		var args []any
		for _, a := range algorithms {
			begin := a.String() + ":" + hex
			where = append(where, column+" >= ? AND "+column+" < ?")
			args = append(args, begin, begin+"g") // "g" sorts after every hex digit
		}
		if len(where) == 0 {
			break
		}
		images, err := s.images(ctx, q, strings.Join(where, " OR "), args...)
		if err != nil {
			return nil, err
		}
		if len(images) == 0 {
			continue
		}
		for _, img := range images[1:] {
			if img.ID != images[0].ID {
				return nil, ambiguous(prefix, images)
			}
		}
		return images, nil
	}
	return nil, fmt.Errorf("image %s: %w", prefix, registry.ErrAbsent)
}

// maxCandidates bounds how many images an error message names.
const maxCandidates = 10

func ambiguous(prefix string, images []Image) error {
	var list []string
	for _, img := range images {
		name := img.ID.Encoded()[:12]
		if len(img.Names) > 0 {
			name += " (" + img.Names[0].Familiar() + ")"
		}
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	if n := len(list); n > maxCandidates {
		list = append(list[:maxCandidates], fmt.Sprintf("and %d more", n-maxCandidates))
	}
	return fmt.Errorf("image %s: %w: it may be %s", prefix, ErrAmbiguous, strings.Join(list, ", "))
}
