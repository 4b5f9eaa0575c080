package store

import (
	"context"
	"fmt"
	"slices"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// RemoveOptions of Remove.
type RemoveOptions struct {
	// Force removes an image by ID although several names name it.
	Force bool
	// NoPrune keeps parents that nothing names or uses any more.
	NoPrune bool
}

// Remove removes a name or an image, by docker's rules for rmi:
//
//   - A name of an image that has other names is only removed. With its last name the image
//     goes, too. Names by digest in the same repository go with the last tag there.
//   - An ID removes the image with all its names where they are one tag in one
//     repository; where they are more it is refused without Force.
//   - An image that another was made from (Parent), or that a named lease holds,
//     stays: ErrInUse, force or not. By its last name and with Force the name goes.
//
// It returns the names that were removed; and the images (by ID) and layers
// that are gone. Layers that other images, the cache or a lease needs stay.
//
// Errors: registry.ErrAbsent, ErrAmbiguous, ErrInUse.
func (s *Store) Remove(ctx context.Context, nameOrID string, o RemoveOptions) (untagged []registry.Ref, deleted []digest.Digest, err error) {
	if err := s.writable(); err != nil {
		return nil, nil, err
	}
	var u *unname
	err = s.freeing(func() error {
		u = &unname{s: s, o: o}
		return s.updateDurably(ctx, func(tx querier) error {
			if err := s.dropDeadLeases(ctx, tx); err != nil {
				return err
			}
			return u.remove(ctx, tx, nameOrID)
		})
	})
	if err != nil {
		return nil, nil, err
	}
	if len(u.targets) == 0 {
		return u.untagged, nil, nil
	}
	gone, err := s.collect(ctx, u.targets)
	s.keepReserve()
	return u.untagged, append(u.ids, gone.Layers...), err
}

// unname is one removal of names and images on record. Its shape is that of ImageDelete in
// docker's daemon, whose answers scripts rely on.
type unname struct {
	s        *Store
	o        RemoveOptions
	untagged []registry.Ref
	ids      []digest.Digest // images removed
	targets  []digest.Digest // their manifests
}

func (u *unname) remove(ctx context.Context, tx querier, nameOrID string) error {
	f, err := u.s.find(ctx, tx, nameOrID)
	if err != nil {
		return err
	}
	id, names := f.images[0].ID, namesOf(f.images)
	if f.ref.IsZero() {
		if oneReference(names) {
			if err := u.conflict(ctx, tx, id, false, nil); err != nil {
				return err
			}
			names, err = u.untag(ctx, tx, names, names)
			if err != nil {
				return err
			}
		}
		return u.delete(ctx, tx, id, names, false)
	}
	drop, err := u.meant(f, names)
	if err != nil {
		return err
	}
	if !u.o.Force && len(drop) == len(names) {
		if user, err := u.user(ctx, tx, f.images); err != nil {
			return err
		} else if user.is() {
			return user.conflictf("unable to remove repository reference %q (must force) - %s is using its referenced image %s",
				f.ref.Familiar(), user.text, short(id))
		}
	}
	names, err = u.untag(ctx, tx, names, drop)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return u.dropTwins(ctx, tx, f.images, drop)
	}
	return u.delete(ctx, tx, id, nil, true)
}

// dropTwins removes those of images, all with one ID, that have lost their last name while others have
// names still: to people they are one image, and it would be listed twice.
func (u *unname) dropTwins(ctx context.Context, tx querier, images []Image, drop []registry.Ref) error {
	for _, img := range images {
		lost := len(img.Names) > 0 && !slices.ContainsFunc(img.Names, func(n registry.Ref) bool { return !slices.Contains(drop, n) })
		if !lost {
			continue
		}
		if user, err := u.s.holder(ctx, tx, img.Target.Digest); err != nil || user.is() {
			return err
		}
		if err := deleteImage(ctx, tx, img.Target.Digest); err != nil {
			return err
		}
		u.targets = append(u.targets, img.Target.Digest)
	}
	return nil
}

// meant returns which of an image's names go when ref is to be removed.
func (u *unname) meant(f found, names []registry.Ref) ([]registry.Ref, error) {
	ref := f.ref
	if ref.Digest != "" {
		byDigest := registry.Ref{Repo: ref.Repo, Digest: ref.Digest}
		if slices.Contains(names, byDigest) {
			return []registry.Ref{byDigest}, nil
		}
		// It has no such name of its own: what is meant is the image, in that repository.
		var drop []registry.Ref
		for _, n := range names {
			if n.Repo == ref.Repo {
				drop = append(drop, n)
			}
		}
		if len(drop) == 0 && len(names) > 0 {
			return nil, fmt.Errorf("image %s: %w", ref.Familiar(), registry.ErrAbsent)
		}
		if len(drop) > 1 && !u.o.Force {
			return nil, multiple(f.images[0].ID)
		}
		return drop, nil
	}
	drop := []registry.Ref{ref}
	// With the last tag of a repository go the names by digest there.
	for _, n := range names {
		if n.Repo == ref.Repo && n.Tag != "" && n != ref {
			return drop, nil
		}
	}
	for _, n := range names {
		if n.Repo == ref.Repo && n.Digest != "" {
			drop = append(drop, n)
		}
	}
	return drop, nil
}

// untag removes drop and returns what is left of names.
func (u *unname) untag(ctx context.Context, tx querier, names, drop []registry.Ref) (left []registry.Ref, err error) {
	for _, ref := range drop {
		if _, err := deleteName(ctx, tx, ref); err != nil {
			return nil, err
		}
		u.untagged = append(u.untagged, ref)
	}
	for _, n := range names {
		if !slices.Contains(drop, n) {
			left = append(left, n)
		}
	}
	return left, nil
}

// delete removes an image and then, up the line, the parents nobody wants any more.
// With quiet, an image that is in use just stays.
func (u *unname) delete(ctx context.Context, tx querier, id digest.Digest, names []registry.Ref, quiet bool) error {
	images, err := u.s.images(ctx, tx, "id = ?", id)
	if err != nil || len(images) == 0 {
		return err
	}
	if quiet && len(namesOf(images)) > 0 {
		return nil
	}
	if err := u.conflict(ctx, tx, id, true, names); err != nil {
		if quiet {
			return nil
		}
		return err
	}
	if _, err := u.untag(ctx, tx, names, names); err != nil {
		return err
	}
	var parent digest.Digest
	for _, img := range images {
		if err := deleteImage(ctx, tx, img.Target.Digest); err != nil {
			return err
		}
		u.targets = append(u.targets, img.Target.Digest)
		parent = img.Parent
	}
	u.ids = append(u.ids, id)
	if u.o.NoPrune || parent == "" {
		return nil
	}
	return u.delete(ctx, tx, parent, nil, true)
}

// conflict says why an image must not be deleted. Names stand in the way only if
// there are any and checkNames is set without force.
func (u *unname) conflict(ctx context.Context, tx querier, id digest.Digest, checkNames bool, names []registry.Ref) error {
	images, err := u.s.images(ctx, tx, "id = ?", id)
	if err != nil {
		return err
	}
	if len(images) > 0 && images[0].Children > 0 {
		return conflictf("unable to delete %s (cannot be forced) - image has dependent child images", short(id))
	}
	user, err := u.user(ctx, tx, images)
	if err != nil {
		return err
	}
	switch {
	case user.running:
		return user.conflictf("unable to delete %s (cannot be forced) - image is being used by running %s", short(id), user.text)
	case user.is() && user.container == "":
		return conflictf("unable to delete %s (cannot be forced) - image is being used by %s", short(id), user.text)
	case u.o.Force:
		return nil
	case checkNames && len(names) > 0:
		return multiple(id)
	case user.is():
		return user.conflictf("unable to delete %s (must be forced) - image is being used by stopped %s", short(id), user.text)
	}
	return nil
}

func multiple(id digest.Digest) error {
	return conflictf("unable to delete %s (must be forced) - image is referenced in multiple repositories", short(id))
}

// oneReference tells whether names are all in one repository with at most one tag.
func oneReference(names []registry.Ref) bool {
	tags := 0
	for _, n := range names {
		if n.Tag != "" {
			tags++
		}
		if n.Repo != names[0].Repo {
			return false
		}
	}
	return len(names) > 0 && tags <= 1
}

func namesOf(images []Image) []registry.Ref {
	var names []registry.Ref
	for _, img := range images {
		names = append(names, img.Names...)
	}
	return names
}

// short is how people see an ID: 12 hex digits.
func short(id digest.Digest) string { return id.Encoded()[:12] }
