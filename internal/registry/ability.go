package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
)

// What a registry may do beside the contract. Each ability is an interface of its own, found
// by type assertion; the functions of the same name below use it, or do without
// where the contract alone suffices. A wrapper that hides an ability only makes things slower.

// Stater describes content of which only the digest is known.
type Stater interface {
	// Stat returns the descriptor of a blob or manifest of repo, its size always, its
	// media type where that is known. Errors: ErrAbsent.
	Stat(ctx context.Context, repo string, d digest.Digest) (Descriptor, error)
}

// Ranger reads content from its middle.
type Ranger interface {
	// OpenAt is Open from offset on. As the beginning is missing, only the size is
	// verified. Errors: ErrAbsent; ErrUnsupported where the offset cannot be had.
	OpenAt(ctx context.Context, repo string, d Descriptor, offset int64) (io.ReadCloser, error)
}

// Resumer is an Upload that goes on where an earlier one was broken off.
type Resumer interface {
	// Offset is how much of the content is there already: the first Write continues
	// after it. It may be all of it, and then Commit is all that is left to do. It is called before the
	// first Write; who never calls it writes from the beginning. What was there is verified
	// by Commit with the rest, and forgotten where that fails.
	Offset() int64
}

// TagLister lists the tags of one repository.
type TagLister interface {
	// Tags yields the tags of repo that sort after the one given ("": all), in byte
	// order. Errors: ErrAbsent if there is no such repository.
	Tags(ctx context.Context, repo, after string) iter.Seq2[string, error]
}

// RepoLister lists repositories.
type RepoLister interface {
	// Repos yields the repositories that sort after the one given, in byte order.
	Repos(ctx context.Context, after string) iter.Seq2[string, error]
}

// ReferrerLister finds what refers to a manifest as its subject.
type ReferrerLister interface {
	// Referrers yields the manifests of repo whose subject is d, there or not, as the
	// distribution spec's referrers list describes them: with artifact type and
	// annotations. None is no error.
	Referrers(ctx context.Context, repo string, d digest.Digest) iter.Seq2[Descriptor, error]
}

// Mounter takes content of another repository without its being sent.
type Mounter interface {
	// Mount makes d, which is part of repository from, part of repo too. Errors:
	// ErrAbsent, ErrUnsupported; after both an upload may do.
	Mount(ctx context.Context, repo, from string, d Descriptor) error
}

// Drafter accepts content whose digest is known only at its end.
type Drafter interface {
	Draft(ctx context.Context, repo string) (Draft, error)
}

// Draft is an Upload that is told at its end what it was.
type Draft interface {
	io.Writer
	// Commit makes what was written visible as d, whose digest and size must be those of
	// the bytes. Errors: ErrDigest, ErrSize, ErrInvalid.
	Commit(d Descriptor) error
	// Cancel after Commit does nothing.
	Cancel() error
}

// Adopter takes over files.
type Adopter interface {
	// Adopt makes the file at path, on the file system of Incoming, the content d of
	// repo. The caller has verified that it is d, and synced it. The file is moved, or left where it
	// was on an error; if d was there already, it is removed.
	Adopt(ctx context.Context, repo string, d Descriptor, path string) error
	// Incoming is a directory for files that Adopt is to take.
	Incoming() string
}

// Stat describes content of repo by its digest, without its media type if that is not
// known. Errors: ErrAbsent.
func Stat(ctx context.Context, r Reader, repo string, d digest.Digest) (Descriptor, error) {
	if s, ok := r.(Stater); ok {
		return s.Stat(ctx, repo, d)
	}
	rc, err := r.Open(ctx, repo, Descriptor{Digest: d})
	if err != nil {
		return Descriptor{}, err
	}
	defer rc.Close()
	n, err := io.Copy(io.Discard, rc)
	return Descriptor{Digest: d, Size: n}, err
}

// OpenAt opens d from offset on. Errors: ErrAbsent.
func OpenAt(ctx context.Context, r Reader, repo string, d Descriptor, offset int64) (io.ReadCloser, error) {
	if a, ok := r.(Ranger); ok {
		rc, err := a.OpenAt(ctx, repo, d, offset)
		if !errors.Is(err, ErrUnsupported) {
			return rc, err
		}
	}
	rc, err := r.Open(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, rc, offset); err != nil {
		rc.Close()
		return nil, fmt.Errorf("%s: skip %d bytes: %w", d.Digest, offset, err)
	}
	return rc, nil
}

// Tags yields the tags of a repository that sort after the one given. Errors: ErrAbsent.
func Tags(ctx context.Context, r Lister, repo, after string) iter.Seq2[string, error] {
	if l, ok := r.(TagLister); ok {
		return l.Tags(ctx, repo, after)
	}
	return func(yield func(string, error) bool) {
		var tags []string
		known := false
		for n, err := range r.Refs(ctx) {
			if err != nil {
				yield("", err)
				return
			}
			if n.Ref.Repo != repo {
				continue
			}
			known = true
			if n.Ref.Tag > after {
				tags = append(tags, n.Ref.Tag)
			}
		}
		if !known {
			yield("", fmt.Errorf("repository %s: %w", repo, ErrAbsent))
			return
		}
		each(tags, yield)
	}
}

// Repos yields the repositories that sort after the one given.
func Repos(ctx context.Context, r Lister, after string) iter.Seq2[string, error] {
	if l, ok := r.(RepoLister); ok {
		return l.Repos(ctx, after)
	}
	return func(yield func(string, error) bool) {
		var repos []string
		for n, err := range r.Refs(ctx) {
			if err != nil {
				yield("", err)
				return
			}
			if n.Ref.Repo > after {
				repos = append(repos, n.Ref.Repo)
			}
		}
		each(repos, yield)
	}
}

// each yields the values in order, each once.
func each(values []string, yield func(string, error) bool) {
	slices.Sort(values)
	for _, v := range slices.Compact(values) {
		if !yield(v, nil) {
			return
		}
	}
}

// ReadLister is a registry as those see it who only look.
type ReadLister interface {
	Reader
	Lister
}

// Referrers yields the manifests of repo whose subject is d. Without the ability every
// named manifest of the repository is read.
func Referrers(ctx context.Context, r ReadLister, repo string, d digest.Digest) iter.Seq2[Descriptor, error] {
	if l, ok := r.(ReferrerLister); ok {
		return l.Referrers(ctx, repo, d)
	}
	return func(yield func(Descriptor, error) bool) {
		seen := map[digest.Digest]bool{}
		for n, err := range r.Refs(ctx) {
			if err != nil {
				yield(Descriptor{}, err)
				return
			}
			if n.Ref.Repo != repo || seen[n.Desc.Digest] {
				continue
			}
			seen[n.Desc.Digest] = true
			found, ok, err := refersTo(ctx, r, repo, n.Desc, d)
			if err != nil {
				yield(Descriptor{}, err)
				return
			}
			if ok && !yield(found, nil) {
				return
			}
		}
	}
}

func refersTo(ctx context.Context, r Reader, repo string, m Descriptor, d digest.Digest) (Descriptor, bool, error) {
	rc, err := r.Open(ctx, repo, m)
	if err != nil {
		return Descriptor{}, false, err
	}
	defer rc.Close()
	data, err := ReadAll(rc, image.MaxSize)
	if err != nil {
		return Descriptor{}, false, err
	}
	subject, as := Subject(m, data)
	return as, subject == d, nil
}
