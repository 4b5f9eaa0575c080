package registry_test

import (
	"strings"
	"testing"

	"nacre/internal/registry"
)

func TestParseRef(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	for _, c := range []struct{ in, full, familiar string }{
		{"nginx", "docker.io/library/nginx:latest", "nginx:latest"},
		{"nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"},
		{"me/app", "docker.io/me/app:latest", "me/app:latest"},
		{"docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"},
		{"index.docker.io/me/app", "docker.io/me/app:latest", "me/app:latest"},
		{"localhost/app", "localhost/app:latest", "localhost/app:latest"},
		{"localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"},
		{"[::1]:5000/app:x", "[::1]:5000/app:x", "[::1]:5000/app:x"},
		{"ghcr.io/a/b/c:v1.2-rc_3", "ghcr.io/a/b/c:v1.2-rc_3", "ghcr.io/a/b/c:v1.2-rc_3"},
		{"nginx@sha256:" + hex, "docker.io/library/nginx@sha256:" + hex, "nginx@sha256:" + hex},
		{"nginx:1@sha256:" + hex, "docker.io/library/nginx:1@sha256:" + hex, "nginx:1@sha256:" + hex},
		{"docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
		{"docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"},
		{"docker.io/localhost/c", "docker.io/localhost/c:latest", "docker.io/localhost/c:latest"},
	} {
		r, err := registry.ParseRef(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if r.String() != c.full || r.Familiar() != c.familiar {
			t.Errorf("%q is %q, %q; want %q, %q", c.in, r, r.Familiar(), c.full, c.familiar)
		}
	}
	for _, in := range []string{
		"", "UPPER", "a//b", "/a", "a/", "a:", "a:b:c", "a@sha256:12", "a b", "a:-x", "../a", "a/../b", ":latest", "@sha256:" + hex, hex,
		strings.Repeat("a", 256), "a:" + strings.Repeat("b", 129), "a\x00b",
	} {
		if r, err := registry.ParseRef(in); err == nil {
			t.Errorf("%q was taken for %q", in, r)
		} else if !strings.HasPrefix(err.Error(), "invalid reference") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// FuzzParseRef: both forms of a name mean what it means.
func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"nginx", "docker.io/library/a/b", "docker.io/a", "localhost:5000/a:b", "library/library/x", "docker.io/library/localhost/x", "docker.io/a.b/c", "docker.io/localhost/x", "a.b/c@sha256:" + strings.Repeat("0", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := registry.ParseRef(s)
		if err != nil {
			return
		}
		for _, form := range []string{r.String(), r.Familiar()} {
			if again, err := registry.ParseRef(form); err != nil || again != r {
				t.Errorf("%q: %+v prints as %q, which is %+v, %v", s, r, form, again, err)
			}
		}
	})
}
