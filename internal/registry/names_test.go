package registry_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
)

// indexJSON is an index.json whose entries have the given annotations.
func indexJSON(annotations ...string) []byte {
	var b strings.Builder
	b.WriteString(`{"schemaVersion":2,"manifests":[`)
	for i, a := range annotations {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, `{"mediaType":%q,"digest":%q,"size":7,"annotations":{%s}}`, image.TypeManifest, digest.FromString(fmt.Sprint(i)), a)
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

func TestNamesOfOtherTools(t *testing.T) {
	const containerd, spec = `"io.containerd.image.name":`, `"org.opencontainers.image.ref.name":`
	for _, c := range []struct{ who, annotations, want string }{
		{"docker, BuildKit", containerd + `"docker.io/library/nginx:1",` + spec + `"1"`, "docker.io/library/nginx:1"},
		{"umoci tag of that", containerd + `"docker.io/library/nginx:1",` + spec + `"2"`, "docker.io/library/nginx:2"},
		{"skopeo copy oci:dir:1", spec + `"1"`, ":1"},
		{"podman save", spec + `"localhost/a:1"`, "localhost/a:1"},
		{"short full name", spec + `"nginx:1"`, "docker.io/library/nginx:1"},
		{"a name and a digest", containerd + `"nginx:1@` + digest.FromString("x").String() + `"`, "docker.io/library/nginx:1"},
		{"a word", spec + `"some.release+2"`, ":some.release+2"},
		{"nonsense for containerd", containerd + `"///",` + spec + `"1"`, ":1"},
		{"no name", ``, "@" + digest.FromString("0").String()},
	} {
		n, err := registry.ParseNames(indexJSON(c.annotations))
		if err != nil {
			t.Fatal(err)
		}
		all := n.All()
		if len(all) != 1 || all[0].Ref.String() != c.want {
			t.Errorf("%s: %+v, want %s", c.who, all, c.want)
			continue
		}
		if len(all[0].Desc.Annotations) != 0 {
			t.Errorf("%s: names are left in the descriptor: %v", c.who, all[0].Desc.Annotations)
		}
		for _, ref := range []registry.Ref{all[0].Ref, {}, {Tag: all[0].Ref.Tag}, {Digest: digest.FromString("0")}} {
			if d, err := n.Resolve(ref); err != nil || d.Digest != digest.FromString("0") {
				t.Errorf("%s: %q resolves to %s, %v", c.who, ref, d.Digest, err)
			}
		}
	}
}

func TestNamesResolve(t *testing.T) {
	a, b := registrytest.Hello("a").Desc(), registrytest.Hello("b").Desc()
	n := registry.NamesOf([]registry.Named{
		{Ref: registrytest.Ref("a:1"), Desc: a}, {Ref: registrytest.Ref("b:1"), Desc: b}, {Ref: registrytest.Ref("b:2"), Desc: b},
	})
	for ref, want := range map[registry.Ref]any{
		registrytest.Ref("a:1"):                 a.Digest,
		registrytest.Ref("b:1"):                 b.Digest,
		{Tag: "2"}:                              b.Digest,
		{Tag: "1"}:                              registry.ErrInvalid, // two images
		{}:                                      registry.ErrInvalid,
		registrytest.Ref("a:2"):                 registry.ErrAbsent,
		registrytest.Ref("localhost/a:1"):       registry.ErrAbsent,
		{Digest: b.Digest}:                      b.Digest,
		{Repo: "x", Tag: "y", Digest: a.Digest}: a.Digest,
		{Digest: digest.FromString("z")}:        registry.ErrAbsent,
	} {
		d, err := n.Resolve(ref)
		if e, ok := want.(error); (ok && !errors.Is(err, e)) || (!ok && d.Digest != want) {
			t.Errorf("%q: %s, %v; want %v", ref, d.Digest, err, want)
		}
	}
}

func TestNamesChange(t *testing.T) {
	a, b := registrytest.Hello("a").Desc(), registrytest.Hello("b").Desc()
	var n registry.Names
	steps := []struct {
		change func()
		want   []string
	}{
		{func() { n = n.With(registry.Ref{Repo: "r", Digest: a.Digest}, a) }, []string{"@" + a.Digest.String()}},
		{func() { n = n.With(registry.Ref{Digest: a.Digest}, a) }, []string{"@" + a.Digest.String()}},
		{func() { n = n.With(registrytest.Ref("x:1"), a) }, []string{"docker.io/library/x:1"}},
		{func() { n = n.With(registry.Ref{Digest: a.Digest}, a) }, []string{"docker.io/library/x:1"}},
		{func() { n = n.With(registrytest.Ref("x:2"), b) }, []string{"docker.io/library/x:1", "docker.io/library/x:2"}},
		{func() { n = n.With(registrytest.Ref("x:1"), b) }, []string{"docker.io/library/x:1", "docker.io/library/x:2"}},
		{func() { n, _ = n.Without(registrytest.Ref("x:3")) }, []string{"docker.io/library/x:1", "docker.io/library/x:2"}},
		{func() { n, _ = n.Without(registrytest.Ref("x:1")) }, []string{"docker.io/library/x:2"}},
		{func() { n = n.With(registry.Ref{Tag: "bare"}, a) }, []string{":bare", "docker.io/library/x:2"}},
		{func() { n, _ = n.WithoutDigest(b.Digest) }, []string{":bare"}},
	}
	for i, s := range steps {
		before := n
		was := fmt.Sprint(before.All())
		s.change()
		var got []string
		for _, x := range n.All() {
			got = append(got, x.Ref.String())
		}
		if !slices.Equal(got, s.want) {
			t.Errorf("step %d: %q, want %q", i, got, s.want)
		}
		if fmt.Sprint(before.All()) != was {
			t.Errorf("step %d changed the old value", i)
		}
	}
}

func TestParseNamesRefuses(t *testing.T) {
	for name, doc := range map[string]string{
		"empty": "", "not JSON": "<", "schema": `{"schemaVersion":1}`, "list": `[]`,
		"digest":   `{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:../x","size":1}]}`,
		"size":     `{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"` + digest.FromString("").String() + `","size":-5}]}`,
		"too long": strings.Repeat(" ", registry.MaxNames+1),
	} {
		if _, err := registry.ParseNames([]byte(doc)); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseNames: what was read and written again says the same.
func FuzzParseNames(f *testing.F) {
	f.Add(indexJSON(`"io.containerd.image.name":"nginx:1","org.opencontainers.image.ref.name":"2"`, ``, `"org.opencontainers.image.ref.name":"a/b:c"`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := registry.ParseNames(data)
		if err != nil {
			return
		}
		out, err := n.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := registry.ParseNames(out)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if a, b := fmt.Sprint(n.All()), fmt.Sprint(again.All()); a != b {
			t.Errorf("%s\nwas  %s", b, a)
		}
		for _, x := range n.All() {
			if without, ok := n.Without(x.Ref); !ok || len(without.All()) >= len(n.All()) {
				t.Errorf("%q cannot be removed", x.Ref)
			}
		}
	})
}
