package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// TestRemove is docker's rmi, row by row. Each case begins with an image A of
// names, and B made from A where there is a child.
func TestRemove(t *testing.T) {
	for _, c := range []struct {
		title    string
		names    []string // of A
		digests  []string // repositories in which A is also wanted by digest
		child    bool     // B, unnamed, has A as parent; it is B that is removed then
		held     bool     // by a named lease
		remove   string   // "A" and "B": the ID, "A@repo": by digest
		o        store.RemoveOptions
		untagged []string
		deleted  string // the images gone, in order
		err      error
		text     string // in the error
	}{
		{title: "only name", names: []string{"a:1"}, remove: "a:1", untagged: []string{"a:1"}, deleted: "A"},
		{title: "one name of two", names: []string{"a:1", "a:2"}, remove: "a:1", untagged: []string{"a:1"}},
		{title: "one name of two repositories", names: []string{"a:1", "b:1"}, remove: "b:1", untagged: []string{"b:1"}},
		{title: "one name of two by force", names: []string{"a:1", "a:2"}, remove: "a:1", o: store.RemoveOptions{Force: true}, untagged: []string{"a:1"}},
		{title: "ID with one name", names: []string{"a:1"}, remove: "A", untagged: []string{"a:1"}, deleted: "A"},
		{title: "ID with two tags", names: []string{"a:1", "a:2"}, remove: "A", err: store.ErrInUse, text: "must be forced"},
		{title: "ID with two repositories", names: []string{"a:1", "b:1"}, remove: "A", err: store.ErrInUse, text: "referenced in multiple repositories"},
		{title: "ID with two tags by force", names: []string{"a:1", "b:1"}, remove: "A", o: store.RemoveOptions{Force: true},
			untagged: []string{"a:1", "b:1"}, deleted: "A"},
		{title: "ID without name", remove: "A", deleted: "A"},
		{title: "last tag takes names by digest along", names: []string{"a:1"}, digests: []string{"a"}, remove: "a:1",
			untagged: []string{"a:1", "a@A"}, deleted: "A"},
		{title: "not those of other repositories", names: []string{"a:1"}, digests: []string{"b"}, remove: "a:1", untagged: []string{"a:1"}},
		{title: "not while there is another tag", names: []string{"a:1", "a:2"}, digests: []string{"a"}, remove: "a:1", untagged: []string{"a:1"}},
		{title: "name by digest", names: []string{"a:1"}, digests: []string{"a"}, remove: "A@a", untagged: []string{"a@A"}},
		{title: "only name, by digest", digests: []string{"a"}, remove: "A@a", untagged: []string{"a@A"}, deleted: "A"},
		{title: "digest without a name by digest", names: []string{"a:1"}, remove: "A@a", untagged: []string{"a:1"}, deleted: "A"},
		{title: "digest of two tags", names: []string{"a:1", "a:2"}, remove: "A@a", err: store.ErrInUse, text: "must be forced"},
		{title: "digest in another repository", names: []string{"a:1"}, remove: "A@b", err: registry.ErrAbsent},
		{title: "ID with tag and digest in one repository", names: []string{"a:1"}, digests: []string{"a"}, remove: "A",
			untagged: []string{"a:1", "a@A"}, deleted: "A"},
		{title: "absent", names: []string{"a:1"}, remove: "a:2", err: registry.ErrAbsent},
		{title: "parent", child: true, remove: "A", err: store.ErrInUse, text: "dependent child"},
		{title: "parent by force", child: true, remove: "A", o: store.RemoveOptions{Force: true}, err: store.ErrInUse, text: "cannot be forced"},
		{title: "name of a parent", names: []string{"a:1"}, child: true, remove: "a:1", untagged: []string{"a:1"}},
		{title: "child takes its unnamed parent along", child: true, remove: "B", deleted: "BA"},
		{title: "but not with no-prune", child: true, remove: "B", o: store.RemoveOptions{NoPrune: true}, deleted: "B"},
		{title: "nor one with a name", names: []string{"a:1"}, child: true, remove: "B", deleted: "B"},
		{title: "held, by ID", names: []string{"a:1"}, held: true, remove: "A", err: store.ErrInUse, text: "container 1f2e"},
		{title: "held, by ID and force", names: []string{"a:1"}, held: true, remove: "A", o: store.RemoveOptions{Force: true}, err: store.ErrInUse, text: "cannot be forced"},
		{title: "held, by name", names: []string{"a:1"}, held: true, remove: "a:1", err: store.ErrInUse, text: "container 1f2e"},
		{title: "held, one name of two", names: []string{"a:1", "a:2"}, held: true, remove: "a:1", untagged: []string{"a:1"}},
		{title: "held, by name and force: it stays, dangling", names: []string{"a:1"}, held: true, remove: "a:1",
			o: store.RemoveOptions{Force: true}, untagged: []string{"a:1"}},
	} {
		t.Run(c.title, func(t *testing.T) {
			s := open(t)
			l, err := s.LeaseFor(t.Context(), "container 1f2e")
			if err != nil {
				t.Fatal(err)
			}
			layers, err := s.Lease(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			one, two := made(t, s, layers, "one"), made(t, s, layers, "two")
			a := put(t, s, 1, c.names, one)
			for _, repo := range c.digests {
				ref := registry.Ref{Repo: registrytest.Ref(repo).Repo, Digest: a.Target.Digest}
				if err := s.Tag(t.Context(), ref, a.Target); err != nil {
					t.Fatal(err)
				}
			}
			ids := map[string]digest.Digest{"A": a.ID}
			if c.child {
				img := assemble(t, config(2, one, two), one, two)
				img.Parent = a.ID
				b, err := s.PutImage(t.Context(), layers, img, nil)
				if err != nil {
					t.Fatal(err)
				}
				ids["B"] = b.ID
			}
			if c.held {
				if err := l.Image(t.Context(), a); err != nil {
					t.Fatal(err)
				}
			}
			if err := layers.Release(); err != nil {
				t.Fatal(err)
			}
			what := c.remove
			if repo, ok := strings.CutPrefix(what, "A@"); ok {
				what = repo + "@" + a.Target.Digest.String()
			} else if id, ok := ids[what]; ok {
				what = id.String()
			}
			untagged, deleted, err := s.Remove(t.Context(), what, c.o)
			if c.err != nil {
				if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("error %v, want %v with %q", err, c.err, c.text)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, n := range c.untagged {
				want = append(want, strings.Replace(n, "@A", "@"+a.Target.Digest.String(), 1))
			}
			if got := familiar(untagged); !slices.Equal(got, want) {
				t.Errorf("untagged %q, want %q", got, want)
			}
			var gone string
			for _, d := range deleted {
				for name, id := range ids {
					if d == id {
						gone += name
					}
				}
			}
			if gone != c.deleted {
				t.Errorf("deleted %q, want %q", gone, c.deleted)
			}
			for name, id := range ids {
				_, err := s.Lookup(t.Context(), id.String())
				if there := err == nil; there == strings.Contains(c.deleted, name) {
					t.Errorf("%s is there: %v", name, there)
				}
			}
			wantSound(t, s)
		})
	}
}

// TestRemoveKeepsWhatIsNeeded: layers go with the last that needs them.
func TestRemoveKeepsWhatIsNeeded(t *testing.T) {
	s := open(t)
	ctx := t.Context()
	l, err := s.Lease(ctx)
	if err != nil {
		t.Fatal(err)
	}
	shared, only, cached, leased := made(t, s, l, "shared"), made(t, s, l, "only"), made(t, s, l, "cached"), made(t, s, l, "leased")
	if err := s.Cache().Put(ctx, record("slot", "x"), output(cached)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutImage(ctx, l, assemble(t, config(1, shared, only, cached, leased), shared, only, cached, leased), refs("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutImage(ctx, l, assemble(t, config(2, shared), shared), refs("b")); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if err := l.Layer(ctx, leased.DiffID); err != nil {
		t.Fatal(err)
	}
	_, deleted, err := s.Remove(ctx, "a", store.RemoveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(deleted) != 2 || deleted[1] != only.DiffID {
		t.Errorf("deleted %v, want the image and layer %s", deleted, only.DiffID)
	}
	for _, c := range []struct {
		name string
		d    digest.Digest
		want bool
	}{{"shared", shared.DiffID, true}, {"only", only.DiffID, false}, {"cached", cached.DiffID, true}, {"leased", leased.DiffID, true}} {
		if has(t, s, c.d) != c.want {
			t.Errorf("layer %s is there: %v", c.name, !c.want)
		}
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	r, err := s.Prune(ctx, store.PruneOptions{})
	if err != nil || !slices.Contains(r.Layers, leased.DiffID) || len(r.Layers) != 1 || r.Bytes == 0 {
		t.Errorf("prune of leftovers: %+v, %v; want layer %s gone", r, err, leased.DiffID)
	}
	if r, err := dropCache(ctx, s, time.Time{}); err != nil || r.Records != 1 || has(t, s, cached.DiffID) {
		t.Errorf("drop of the cache: %+v, %v; want layer %s gone", r, err, cached.DiffID)
	}
	wantSound(t, s)
}

// TestRemovePulled: a layer and the compressed form it came as go together.
func TestRemovePulled(t *testing.T) {
	s := open(t)
	img := registrytest.Hello("pulled", gzipLayer)
	registrytest.Put(t, s, registrytest.Ref("pulled"), img)
	if _, _, err := s.Remove(t.Context(), "pulled", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, b := range img.Blobs {
		if ok, err := s.Has(t.Context(), "", b.Descriptor); ok || err != nil {
			t.Errorf("%s %s is there, %v", b.MediaType, b.Digest, err)
		}
	}
	u, err := s.Usage(t.Context(), true)
	if err != nil || u.Images.Size+u.Cache.Size+u.Unused.Size != 0 {
		t.Errorf("usage of an empty store: %+v, %v", u, err)
	}
}

func TestPrune(t *testing.T) {
	ctx := t.Context()
	day := 24 * time.Hour
	for _, c := range []struct {
		title string
		o     store.PruneOptions
		want  string // what is left
	}{
		{"none", store.PruneOptions{}, "new old dangling labelled held"},
		{"dangling", store.PruneOptions{Images: store.PruneDangling}, "new old labelled held"},
		{"all", store.PruneOptions{Images: store.PruneAll}, "held"},
		{"until", store.PruneOptions{Images: store.PruneAll, Until: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(4 * day)}, "new held"},
		{"label", store.PruneOptions{Images: store.PruneAll, Labels: []store.LabelFilter{{Key: "keep"}}}, "new old dangling held"},
		{"label=value", store.PruneOptions{Images: store.PruneAll, Labels: []store.LabelFilter{{Key: "keep", Value: "no"}}}, "new old dangling labelled held"},
		{"label!", store.PruneOptions{Images: store.PruneAll, Labels: []store.LabelFilter{{Key: "keep", Not: true}}}, "labelled held"},
	} {
		t.Run(c.title, func(t *testing.T) {
			s := open(t)
			ids := map[string]digest.Digest{}
			for i, name := range []string{"old", "dangling", "labelled", "held", "new"} {
				cfg := config(24 * (i + 1))
				if name == "labelled" {
					cfg.Config.Labels = map[string]string{"keep": "yes"}
				}
				names := refs(name)
				if name == "dangling" {
					names = nil
				}
				img, err := s.PutImage(ctx, nil, assemble(t, cfg), names)
				if err != nil {
					t.Fatal(err)
				}
				ids[name] = img.ID
				if name == "held" {
					l, err := s.LeaseFor(ctx, "container 1")
					if err != nil {
						t.Fatal(err)
					}
					if err := l.Image(ctx, img); err != nil {
						t.Fatal(err)
					}
				}
			}
			r, err := s.Prune(ctx, c.o)
			if err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, name := range []string{"new", "old", "dangling", "labelled", "held"} {
				if _, err := s.Lookup(ctx, ids[name].String()); err == nil {
					left = append(left, name)
				}
			}
			if got := strings.Join(left, " "); got != c.want || len(left)+len(r.Images) != 5 {
				t.Errorf("left %q, want %q; %d said to be removed", got, c.want, len(r.Images))
			}
			wantSound(t, s)
		})
	}
}

func TestUsage(t *testing.T) {
	s := open(t)
	ctx := t.Context()
	shared, one, cached := made(t, s, nil, "shared"), made(t, s, nil, "one"), made(t, s, nil, "cached")
	put(t, s, 1, []string{"a"}, shared, one)
	b := put(t, s, 2, []string{"b"}, shared)
	if err := s.Cache().Put(ctx, record("slot", "x"), output(cached)); err != nil {
		t.Fatal(err)
	}
	if err := s.Cache().Put(ctx, record("slot", "y"), output(shared)); err != nil {
		t.Fatal(err)
	}
	l, err := s.LeaseFor(ctx, "container 1")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Image(ctx, b); err != nil {
		t.Fatal(err)
	}
	u, err := s.Usage(ctx, true)
	if err != nil {
		t.Fatal(err)
	}
	if u.Images.Total != 2 || u.Images.Active != 1 || u.Cache.Total != 2 || u.Cache.Active != 1 || len(u.ImageList) != 2 || len(u.CacheList) != 2 {
		t.Errorf("%+v", u)
	}
	sum := u.ImageList[0].Unique + u.ImageList[1].Unique + u.ImageList[0].Shared
	if u.ImageList[0].Shared != u.ImageList[1].Shared || u.ImageList[0].Shared == 0 || sum != u.Images.Size {
		t.Errorf("shared %d and %d, unique and shared %d of %d", u.ImageList[0].Shared, u.ImageList[1].Shared, sum, u.Images.Size)
	}
	if u.Images.Reclaimable <= 0 || u.Images.Reclaimable >= u.Images.Size || u.Cache.Size == 0 || u.Unused.Size != 0 {
		t.Errorf("%+v", u)
	}
}
