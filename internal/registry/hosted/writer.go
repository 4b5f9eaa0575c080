package hosted

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/store"
)

// Has implements registry.Writer. What is there stays, as in Stat.
func (r *Registry) Has(ctx context.Context, repo string, d registry.Descriptor) (bool, error) {
	p, err := r.part(ctx, repo, d.Digest)
	if err == nil {
		err = r.revive(ctx, repo, p)
	}
	if errors.Is(err, registry.ErrAbsent) || errors.Is(err, registry.ErrInvalid) || errors.Is(err, registry.ErrUnsupported) {
		return false, nil
	}
	return err == nil && (d.Size == 0 || d.Size == p.Size), err
}

// room fails where d may not be pushed, whatever it is.
func (r *Registry) room(repo string, d registry.Descriptor) (store.Repo, error) {
	if err := r.writable(); err != nil {
		return store.Repo{}, err
	}
	in, err := r.names.repo(repo)
	if err != nil {
		return in, err
	}
	if r.o.MaxBlob > 0 && d.Size > r.o.MaxBlob {
		return in, fmt.Errorf("%s: %w: %d bytes, more than the %d allowed", d.Digest, registry.ErrDenied, d.Size, r.o.MaxBlob)
	}
	if quota := r.quota(repo); quota > 0 && d.Size > quota {
		return in, fmt.Errorf("%s: %w: %d bytes, more than the %d allowed in the whole repository", d.Digest, store.ErrQuota, d.Size, quota)
	}
	return in, nil
}

// Adopt implements registry.Adopter. When it returns nil the content survives power loss.
func (r *Registry) Adopt(ctx context.Context, repo string, d registry.Descriptor, path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if d.Size == 0 {
		d.Size = st.Size()
	}
	in, err := r.room(repo, d)
	if err != nil {
		return err
	}
	return r.s.AdoptPart(ctx, in.Name, d, path, r.until(), r.quota(repo))
}

// Incoming implements registry.Adopter: it is kept when the process ends.
func (r *Registry) Incoming() string {
	dir, err := r.s.Uploads()
	if err != nil {
		r.o.Background(err)
	}
	return dir
}

// Mount implements registry.Mounter.
func (r *Registry) Mount(ctx context.Context, repo, from string, d registry.Descriptor) error {
	in, err := r.room(repo, d)
	if err != nil {
		return err
	}
	other, err := r.names.repo(from)
	if err != nil {
		return absent(err)
	}
	if err := registry.CheckDescriptor(registry.Descriptor{Digest: d.Digest}); err != nil {
		return err
	}
	return r.s.SharePart(ctx, in.Name, other, d.Digest, r.until(), r.quota(repo))
}

// Create implements registry.Writer. A manifest or index is held in memory, everything else is a file.
func (r *Registry) Create(ctx context.Context, repo string, d registry.Descriptor) (registry.Upload, error) {
	if _, err := r.room(repo, d); err != nil {
		return nil, err
	}
	check, err := registry.NewChecker(d)
	if err != nil {
		return nil, err
	}
	u := upload{r: r, ctx: ctx, repo: repo, d: d, check: check}
	if image.IsManifestOrIndex(d.MediaType) {
		return &documentUpload{upload: u}, nil
	}
	dir, remove, err := r.s.TempDir("push")
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "blob"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		remove()
		return nil, err
	}
	return &fileUpload{upload: u, f: f, remove: remove}, nil
}

// Tag implements registry.Writer. It survives power loss.
func (r *Registry) Tag(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	in, err := r.room(ref.Repo, d)
	if err != nil {
		return err
	}
	if ref.Tag == "" && ref.Digest != d.Digest {
		return fmt.Errorf("tag %s: %w: it is to name %s", ref, registry.ErrInvalid, d.Digest)
	}
	if !image.IsManifestOrIndex(d.MediaType) {
		return fmt.Errorf("tag %s: %w: media type %q", ref, registry.ErrInvalid, d.MediaType)
	}
	data, err := r.manifest(ctx, ref.Repo, d)
	if err != nil {
		return fmt.Errorf("tag %s: %w", ref, err)
	}
	err = r.s.KeepManifest(ctx, store.Keeping{
		Repo: in, Tag: ref.Tag,
		Desc: registry.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: int64(len(data))},
		Data: data, Until: r.untilUntagged(), Fixed: r.immutable(ref.Repo, ref.Tag),
		Sparse: r.o.Sparse, Quota: r.quota(ref.Repo),
	})
	if err != nil {
		return fmt.Errorf("tag %s: %w", ref, err)
	}
	return nil
}

func (r *Registry) manifest(ctx context.Context, repo string, d registry.Descriptor) ([]byte, error) {
	rc, err := r.Open(ctx, repo, registry.Descriptor{Digest: d.Digest})
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return registry.ReadAll(rc, image.MaxSize)
}
