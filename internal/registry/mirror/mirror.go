// Package mirror reads lists of images that are to be the same in two places: it turns a YAML file
// and the tags there are into names. Copying what they name is for others.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// List is a file, read.
type List struct{ Sources []Source }

// Source is one registry of a list.
type Source struct {
	Host      string          // "docker.io"
	To        string          // where its images go, instead of what is said for all
	Platform  *image.Platform // only the image for it of each index
	Referrers bool            // with what refers to the images
	Rules     []Rule
}

// Rule says which tags of one repository.
type Rule struct {
	Pos     string // "list.yaml:7"
	Repo    string // with domain
	Tags    []string
	Digests []digest.Digest
	All     bool           // every tag
	Regex   *regexp.Regexp // tags that it matches
	Range   Range          // tags that are versions within it
	Last    int            // of those (of all versions, where nothing else is said) the highest; 0: all
}

// Tags lists the tags of repositories: remote.Registry does.
type Tags interface {
	Tags(ctx context.Context, repo, after string) iter.Seq2[string, error]
}

// Refs finds what s names, in the order of the file, each image once. Where a repository cannot be
// listed, an error comes in its place, and then the rest.
func (s Source) Refs(ctx context.Context, tags Tags) iter.Seq2[registry.Ref, error] {
	return func(yield func(registry.Ref, error) bool) {
		seen := map[registry.Ref]bool{}
		for _, r := range s.Rules {
			refs, err := r.refs(ctx, tags)
			if err != nil && !yield(registry.Ref{}, fmt.Errorf("%s: %s: %w", r.Pos, r.Repo, err)) {
				return
			}
			for _, ref := range refs {
				if seen[ref] {
					continue
				}
				seen[ref] = true
				if !yield(ref, nil) {
					return
				}
			}
		}
	}
}

func (r Rule) refs(ctx context.Context, lister Tags) ([]registry.Ref, error) {
	var refs []registry.Ref
	for _, d := range r.Digests {
		refs = append(refs, registry.Ref{Repo: r.Repo, Digest: d})
	}
	for _, tag := range r.Tags {
		refs = append(refs, registry.Ref{Repo: r.Repo, Tag: tag})
	}
	if !r.All && r.Regex == nil && r.Range == nil && r.Last == 0 {
		return refs, nil
	}
	var tags []string
	for tag, err := range lister.Tags(ctx, r.Repo, "") {
		if err != nil {
			return refs, err
		}
		tags = append(tags, tag)
	}
	chosen := r.Choose(tags)
	if len(chosen) == 0 {
		return refs, fmt.Errorf("none of its %d tags is meant: %w", len(tags), registry.ErrAbsent)
	}
	for _, tag := range chosen {
		refs = append(refs, registry.Ref{Repo: r.Repo, Tag: tag})
	}
	return refs, nil
}

// Choose picks those of a repository's tags that the rule is about, in their order.
func (r Rule) Choose(tags []string) []string {
	chosen := slices.DeleteFunc(slices.Clone(tags), func(tag string) bool {
		if r.Regex != nil && !r.Regex.MatchString(tag) {
			return true
		}
		v, ok := ParseVersion(tag)
		if r.Range != nil {
			return !ok || !r.Range.Holds(v)
		}
		// The highest are looked for among releases, unless an expression says among what.
		return r.Last > 0 && (!ok || r.Regex == nil && v.Suffix != "")
	})
	if r.Last == 0 || len(chosen) <= r.Last {
		return chosen
	}
	sorted := slices.Clone(chosen)
	slices.SortStableFunc(sorted, func(a, b string) int {
		va, _ := ParseVersion(a)
		vb, _ := ParseVersion(b)
		return vb.Compare(va)
	})
	last := sorted[:r.Last]
	return slices.DeleteFunc(chosen, func(tag string) bool { return !slices.Contains(last, tag) })
}

// Destination is where a repository goes below to: "docker.io/library/nginx" becomes
// "mirror.example.com/hub/library/nginx" below "mirror.example.com/hub".
func Destination(to, repo string) (string, error) {
	_, path, ok := strings.Cut(repo, "/")
	if !ok {
		return "", errors.New("the repository has no path")
	}
	if !strings.Contains(to, "/") {
		// A lone name would be taken for one of Docker's hub.
		if to != "localhost" && !strings.ContainsAny(to, ".:") {
			return "", fmt.Errorf("destination %q names no registry: want HOST or HOST/PREFIX", to)
		}
	}
	ref, err := registry.ParseRef(strings.TrimSuffix(to, "/") + "/" + path)
	return ref.Repo, err
}
