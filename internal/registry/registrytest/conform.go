package registrytest

import (
	"testing"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// check is one promise of the contract.
type check struct {
	name string
	run  func(*testing.T, registry.Registry)
}

// Conform checks that what open returns, always a new empty registry, keeps the
// contract of package registry. All layers it uploads are real tars.
func Conform(t *testing.T, open func(testing.TB) registry.Registry) {
	for _, c := range []check{
		{"absent", checkAbsent},
		{"upload", checkUpload},
		{"upload twice", checkTwice},
		{"cancelled upload", checkCancel},
		{"abandoned then retried upload", checkRetry},
		{"wrong digest", checkWrongDigest},
		{"wrong size", checkWrongSize},
		{"hostile digest", checkHostileDigest},
		{"open verifies size", checkOpenSize},
		{"layer types", checkLayerTypes},
		{"tag", checkTag},
		{"tag moves", checkTagMoves},
		{"tag of the incomplete", checkTagIncomplete},
		{"tag of a non-manifest", checkTagInvalid},
		{"digest decides", checkDigestDecides},
		{"untagged", checkUntagged},
		{"bytes are kept", checkVerbatim},
		{"index", checkIndex},
		{"artifact", checkArtifact},
		{"refs", checkRefs},
		{"untag", checkUntag},
		{"delete", checkDelete},
		{"concurrent uploads", checkConcurrent},
		{"concurrent tags", checkConcurrentTags},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// ReadLister is what a medium that is only read offers.
type ReadLister interface {
	registry.Reader
	registry.Lister
}

// ConformReader checks a medium that is written once and then only read. open makes
// one with what fill uploads.
func ConformReader(t *testing.T, open func(t testing.TB, fill func(registry.Writer)) ReadLister) {
	a, b := Hello("a"), Hello("b", image.TypeLayerGzip)
	named := map[string]Image{"localhost/a:1": a, "localhost/a:2": a, "b": b}
	r := open(t, func(w registry.Writer) {
		for _, name := range []string{"b", "localhost/a:2", "localhost/a:1"} {
			Put(t, w, Ref(name), named[name])
		}
	})
	t.Run("content", func(t *testing.T) {
		for name, img := range named {
			Check(t, r, Ref(name).Repo, img)
		}
	})
	t.Run("resolve", func(t *testing.T) {
		for name, img := range named {
			wantResolve(t, r, Ref(name), img)
			wantResolve(t, r, registry.Ref{Repo: Ref(name).Repo, Digest: img.Desc().Digest}, img)
		}
	})
	t.Run("absent", func(t *testing.T) { absent(t, r) })
	t.Run("open verifies size", func(t *testing.T) { opensWrongSize(t, r, a.Blobs[0]) })
	t.Run("refs", func(t *testing.T) {
		wantRefs(t, r, "docker.io/library/b:latest", "localhost/a:1", "localhost/a:2")
	})
}
