package main

import (
	"context"
	"slices"
	"strings"
	"sync"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// mountable tells which repositories of the registry that repo is in may have a blob: those that images here were
// pulled from or pushed to. It looks when it is first asked, and what it cannot read it leaves out.
func (a *app) mountable(ctx context.Context, repo string) func(registry.Descriptor) []string {
	domain, _, _ := strings.Cut(repo, "/")
	repos := sync.OnceValue(func() map[digest.Digest][]string {
		found := map[digest.Digest][]string{}
		for img, err := range a.opened.Images(ctx) {
			if err != nil {
				break
			}
			for _, n := range img.Digests {
				if strings.HasPrefix(n.Repo, domain+"/") && n.Repo != repo {
					a.addBlobs(ctx, found, n.Repo, registry.Descriptor{MediaType: img.Target.MediaType, Digest: n.Digest}, 0)
				}
			}
		}
		return found
	})
	return func(d registry.Descriptor) []string { return repos()[d.Digest] }
}

// addBlobs notes the blobs below a manifest or index as repo's.
func (a *app) addBlobs(ctx context.Context, found map[digest.Digest][]string, repo string, d registry.Descriptor, depth int) {
	data, err := registry.ReadDocument(ctx, a.opened, "", d)
	if err != nil || depth > 4 {
		return
	}
	refers, err := registry.Refers(d, data)
	if err != nil {
		return
	}
	for _, r := range refers {
		switch {
		case image.IsManifest(r.MediaType), image.IsIndex(r.MediaType):
			a.addBlobs(ctx, found, repo, r, depth+1)
		case !slices.Contains(found[r.Digest], repo):
			found[r.Digest] = append(found[r.Digest], repo)
		}
	}
}
