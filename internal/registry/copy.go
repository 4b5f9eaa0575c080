package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"nacre/internal/event"
	"nacre/internal/image"
)

// CopyOptions adjusts Copy. The zero value works.
type CopyOptions struct {
	Sink event.Sink // hears of every blob; nil: nobody
	// Step gives the IDs of the steps that are shown, one call at a time; nil counts from 1.
	Step func() int
	// Platform, where ref names an index: only the image for it is copied.
	Platform *image.Platform
	// Platforms, of an index: the images for these are copied, and the index as it is; so the digest stays
	// what it was. dst must bear an index most of whose images it lacks, as the store does.
	Platforms []image.Platform
	// Partial leaves out images of an index that src does not have, as
	// when only one platform of it was ever pulled. The index is copied as it is.
	Partial bool
	// MountFrom names repositories of dst, in its words, that may have a blob: where dst is a Mounter it is
	// mounted from one of them. nil: nothing is known.
	MountFrom func(Descriptor) []string
	// Referrers copies what refers to the copied manifests as its subject (signatures, SBOMs), and
	// what refers to that. src must be able to list it.
	Referrers bool
	// Parallel is how many blobs are copied at once; 0 means 4, which fills most links
	// and is what registries bear from one client. A Serial dst gets one at a time.
	Parallel int
}

// Serial is a Writer that may only take one upload at a time.
type Serial interface {
	// Serial tells whether a second Create waits for the end of the first upload.
	Serial() bool
}

// Limits on what an image refers to, so that a hostile one cannot exhaust memory: manifests
// are kept until their blobs have arrived.
const (
	maxManifestBytes = 64 << 20
	maxNesting       = 8
	maxBlobs         = 100_000
)

// Copy copies what ref names, with everything it refers to, from src to dst, under
// the name as (zero: ref). Bytes and so digests are kept; content of unknown types is
// carried along. Only what dst lacks is sent, and a manifest after what it refers to. Between
// repositories of one registry that is a Mounter, blobs are mounted. An upload that is a Resumer
// goes on where an earlier one was broken off. It returns the descriptor that as now names.
// Errors: ErrAbsent, ErrDigest, ErrSize, ErrInvalid, image.ErrNoPlatform, those of src and dst.
func Copy(ctx context.Context, dst Writer, as Ref, src Reader, ref Ref, o CopyOptions) (Descriptor, error) {
	t := newTransfer(dst, as, src, ref, o)
	d, err := t.run(ctx, ref)
	if err != nil {
		return Descriptor{}, fmt.Errorf("copy %s: %w", ref, err)
	}
	return d, nil
}

// transfer is one Copy under way.
type transfer struct {
	dst              Writer
	src              Reader
	as               Ref
	srcRepo, dstRepo string
	o                CopyOptions
	mu               sync.Mutex // around o.Step

	// What is to be copied, found by gather.
	blobs     []Descriptor
	manifests []manifest   // each after those it refers to
	referrers []Descriptor // those of manifests that are there as referrers, to be recorded by digest
	seen      map[seen]bool
	bytes     int
}

type manifest struct {
	Descriptor
	data []byte
}

// seen is the key of what was gathered. A digest may come up both as a manifest and,
// in a hostile image, as a layer: the one must not hide the other.
type seen struct {
	digest   digest.Digest
	manifest bool
}

func newTransfer(dst Writer, as Ref, src Reader, ref Ref, o CopyOptions) *transfer {
	if as.IsZero() {
		as = ref
	}
	if o.Sink == nil {
		o.Sink = event.Discard
	}
	if o.Step == nil {
		o.Step = counter()
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if s, ok := dst.(Serial); ok && s.Serial() {
		o.Parallel = 1
	}
	return &transfer{dst: dst, src: src, as: as, srcRepo: ref.Repo, dstRepo: as.Repo, o: o, seen: map[seen]bool{}}
}

func (t *transfer) run(ctx context.Context, ref Ref) (Descriptor, error) {
	d, err := t.resolve(ctx, ref)
	if err != nil {
		return Descriptor{}, err
	}
	if t.as.Digest != "" && t.as.Digest != d.Digest {
		return Descriptor{}, fmt.Errorf("as %s: %w: it is %s", t.as, ErrDigest, d.Digest)
	}
	if err := t.gather(ctx, d, 0); err != nil {
		return Descriptor{}, err
	}
	if t.o.Referrers {
		if err := t.gatherReferrers(ctx); err != nil {
			return Descriptor{}, err
		}
	}
	if err := t.sendBlobs(ctx); err != nil {
		return Descriptor{}, err
	}
	for _, m := range t.manifests {
		if err := t.sendManifest(ctx, m); err != nil {
			return Descriptor{}, err
		}
	}
	as := t.as
	if as.Tag == "" {
		as.Digest = d.Digest
	}
	if err := t.dst.Tag(ctx, as, d); err != nil {
		return Descriptor{}, err
	}
	for _, r := range t.referrers {
		if err := t.dst.Tag(ctx, Ref{Repo: t.dstRepo, Digest: r.Digest}, r); err != nil {
			return Descriptor{}, fmt.Errorf("referrer %s: %w", r.Digest, err)
		}
	}
	return d, nil
}

// resolve finds the manifest or index to copy.
func (t *transfer) resolve(ctx context.Context, ref Ref) (Descriptor, error) {
	d, err := t.src.Resolve(ctx, ref)
	if err != nil {
		return Descriptor{}, err
	}
	if ref.Digest != "" && d.Digest != ref.Digest {
		return Descriptor{}, fmt.Errorf("%w: asked for %s, got %s", ErrDigest, ref.Digest, d.Digest)
	}
	if !isManifest(d) {
		return Descriptor{}, fmt.Errorf("%w: media type %q", ErrUnsupported, d.MediaType)
	}
	for range maxNesting {
		if t.o.Platform == nil || !image.IsIndex(d.MediaType) {
			return d, nil
		}
		data, err := t.read(ctx, d)
		if err != nil {
			return Descriptor{}, err
		}
		if d, err = choose(d, data, *t.o.Platform); err != nil {
			return Descriptor{}, err
		}
	}
	return Descriptor{}, fmt.Errorf("%w: indexes nested more than %d deep", ErrInvalid, maxNesting)
}

// choose finds the image for a platform in the index d.
func choose(d Descriptor, data []byte, p image.Platform) (Descriptor, error) {
	x, err := image.ParseIndex(data)
	if err != nil {
		return Descriptor{}, fmt.Errorf("%w: %s: %w", ErrInvalid, d.Digest, err)
	}
	return image.MatchPlatform(x, p)
}

// chosen finds the images for the wanted platforms in the index d, which refers to all.
func (t *transfer) chosen(d Descriptor, data []byte, all []Descriptor) ([]Descriptor, error) {
	if len(t.o.Platforms) == 0 {
		return all, nil
	}
	var some []Descriptor
	for _, p := range t.o.Platforms {
		c, err := choose(d, data, p)
		if err != nil {
			return nil, err
		}
		some = append(some, c)
	}
	return some, nil
}

// gather finds everything that d refers to, itself included.
func (t *transfer) gather(ctx context.Context, d Descriptor, depth int) error {
	if err := CheckDescriptor(d); err != nil {
		return err
	}
	key := seen{d.Digest, isManifest(d)}
	if t.seen[key] {
		return nil
	}
	t.seen[key] = true
	if !key.manifest {
		t.blobs = append(t.blobs, d)
		if len(t.blobs) > maxBlobs {
			return fmt.Errorf("%w: refers to more than %d blobs", ErrInvalid, maxBlobs)
		}
		return nil
	}
	if depth > maxNesting {
		return fmt.Errorf("%w: manifests nested more than %d deep", ErrInvalid, maxNesting)
	}
	data, err := t.read(ctx, d)
	if err != nil {
		return err
	}
	if t.bytes += len(data); t.bytes > maxManifestBytes {
		return fmt.Errorf("%w: manifests of more than %d bytes", ErrInvalid, maxManifestBytes)
	}
	refers, err := Refers(d, data)
	if err != nil {
		return err
	}
	if image.IsIndex(d.MediaType) {
		if refers, err = t.chosen(d, data, refers); err != nil {
			return err
		}
	}
	if err := t.gatherAll(ctx, d, refers, depth+1); err != nil {
		return err
	}
	t.manifests = append(t.manifests, manifest{d, data})
	return nil
}

func (t *transfer) gatherAll(ctx context.Context, parent Descriptor, refers []Descriptor, depth int) error {
	absent := 0
	for _, c := range refers {
		err := t.gather(ctx, c, depth)
		if errors.Is(err, ErrAbsent) && t.o.Partial && image.IsIndex(parent.MediaType) {
			absent++
			continue
		}
		if err != nil {
			return err
		}
	}
	if absent > 0 && absent == len(refers) {
		return fmt.Errorf("%s: none of its %d images is here: %w", parent.Digest, absent, ErrAbsent)
	}
	return nil
}

// gatherReferrers finds what refers to what was found: the list of manifests grows meanwhile,
// and ends as none is gathered twice.
func (t *transfer) gatherReferrers(ctx context.Context) error {
	src, ok := t.src.(ReadLister)
	if !ok {
		return fmt.Errorf("referrers: %w by the source", ErrUnsupported)
	}
	for i := 0; i < len(t.manifests); i++ {
		subject := t.manifests[i].Digest
		for d, err := range Referrers(ctx, src, t.srcRepo, subject) {
			if err == nil {
				err = t.gather(ctx, d, 0)
			}
			if err != nil {
				return fmt.Errorf("referrers of %s: %w", subject, err)
			}
			t.referrers = append(t.referrers, d)
		}
	}
	return nil
}

// read returns the bytes of a manifest or index, verified.
func (t *transfer) read(ctx context.Context, d Descriptor) ([]byte, error) {
	return ReadDocument(ctx, t.src, t.srcRepo, d)
}

func (t *transfer) sendBlobs(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(t.o.Parallel)
	for _, d := range t.blobs {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return t.sendBlob(gctx, d) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// counter counts from 1, for one goroutine at a time.
func counter() func() int {
	n := 0
	return func() int { n++; return n }
}
