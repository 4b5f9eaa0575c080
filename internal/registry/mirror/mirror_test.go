package mirror_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/mirror"
)

func TestCompare(t *testing.T) {
	// In order; those of one row are equal.
	rows := [][]string{
		{"0", "0.0", "v0"}, {"0.9"}, {"1.0-alpha"}, {"1.0-rc2"}, {"1.0-rc10"}, {"1.0", "v1.0.0", "1"}, {"1.2"}, {"1.10"}, {"2-alpine"}, {"2"}, {"2026.01.02"}, {"18446744073709551615"},
	}
	for i, row := range rows {
		for j, other := range rows {
			for _, a := range row {
				for _, b := range other {
					va, ok := mirror.ParseVersion(a)
					vb, ok2 := mirror.ParseVersion(b)
					if got := va.Compare(vb); !ok || !ok2 || sign(got) != sign(i-j) {
						t.Errorf("%s to %s: %d, %t, %t", a, b, got, ok, ok2)
					}
				}
			}
		}
	}
	for _, tag := range []string{"", "latest", "v", "1.", ".1", "1..2", "1.2.3.4.5", "1-", "-1", "1.x", "99999999999999999999", "bookworm-1"} {
		if v, ok := mirror.ParseVersion(tag); ok {
			t.Errorf("%q is %v", tag, v)
		}
	}
}

func sign(n int) int { return min(1, max(-1, n)) }

func TestRange(t *testing.T) {
	tags := strings.Fields("1 1.2 1.2.3 1.2.9 1.3 1.3-rc1 1.9.9 2 2.0.1 v2.1 2.1-alpine 3 0.2.3 0.2.9 0.3 latest")
	for _, c := range []struct{ r, want string }{
		{"1.2.3", "1.2.3"},
		{"=1.2.3 || 3", "1.2.3 3"},
		{">=2", "2 2.0.1 v2.1 3"},
		{">= 2, < 3", "2 2.0.1 v2.1"},
		{">1.3 <=2", "1.9.9 2"},
		{"!=1 ^1", "1.2 1.2.3 1.2.9 1.3 1.9.9"},
		{"^1.2.3", "1.2.3 1.2.9 1.3 1.9.9"},
		{"^0.2.3", "0.2.3 0.2.9"},
		{"~1.2", "1.2 1.2.3 1.2.9"},
		{"~>1.2.3", "1.2.3 1.2.9"},
		{"1.2.x", "1.2 1.2.3 1.2.9"},
		{"1.x", "1 1.2 1.2.3 1.2.9 1.3 1.9.9"},
		{"1.*.*", "1 1.2 1.2.3 1.2.9 1.3 1.9.9"},
		{"*", "1 1.2 1.2.3 1.2.9 1.3 1.9.9 2 2.0.1 v2.1 3 0.2.3 0.2.9 0.3"},
		{">=1.3-rc1 <1.9", "1.3 1.3-rc1"},
		{"=2.1-alpine", "2.1-alpine"},
	} {
		r, err := mirror.ParseRange(c.r)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := strings.Join(mirror.Rule{Range: r}.Choose(tags), " "); got != c.want {
			t.Errorf("%q: %s, want %s", c.r, got, c.want)
		}
	}
	for _, bad := range []string{"", "||", "1 ||", ">=", "one", "1.2.3.4.5", "^", "~latest", "^*y"} {
		if r, err := mirror.ParseRange(bad); err == nil {
			t.Errorf("%q is %v", bad, r)
		}
	}
}

// there is what TestRefs finds at the registry.
type there map[string][]string

func (r there) Tags(_ context.Context, repo, _ string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if r[repo] == nil {
			yield("", registry.ErrAbsent)
			return
		}
		for _, tag := range r[repo] {
			if !yield(tag, nil) {
				return
			}
		}
	}
}

const sha = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestRefs(t *testing.T) {
	tags := there{
		"docker.io/library/nginx": {"1.9", "1.10", "1.10-alpine", "1.11-alpine", "latest"},
		"docker.io/team/app":      {"v1", "v2", "v3-rc1", "v3"},
		"localhost:5000/deep/app": {"a", "b"},
	}
	for name, c := range map[string]struct {
		file string
		want string
	}{
		"tags":         {"docker.io: {images: {nginx: ['1.9', nosuch, '" + sha + "']}}", "library/nginx@" + sha + " library/nginx:1.9 library/nginx:nosuch"},
		"all":          {"docker.io: {images: {nginx: []}}", "library/nginx:1.9 library/nginx:1.10 library/nginx:1.10-alpine library/nginx:1.11-alpine library/nginx:latest"},
		"null is all":  {"localhost:5000:\n  images:\n    deep/app:\n", "deep/app:a deep/app:b"},
		"regex":        {`docker.io: {images-by-tag-regex: {nginx: '^1\.\d+$'}}`, "library/nginx:1.9 library/nginx:1.10"},
		"regex, last":  {`docker.io: {images-by-tag-regex: {nginx: {regex: 'alpine$', last: 1}}}`, "library/nginx:1.11-alpine"},
		"range":        {"docker.io: {images-by-semver: {team/app: '>=2'}}", "team/app:v2 team/app:v3"},
		"range, last":  {"docker.io: {images-by-semver: {team/app: {range: '<3', last: 1}}}", "team/app:v2"},
		"last":         {"docker.io: {images-by-last: {team/app: 2, nginx: 1}}", "team/app:v2 team/app:v3 library/nginx:1.10"},
		"each once":    {"docker.io: {images: {team/app: [v3]}, images-by-last: {team/app: 2}}", "team/app:v3 team/app:v2"},
		"none":         {"docker.io: {images-by-tag-regex: {nginx: nosuch}, images: {team/app: [v1]}}", "list.yaml:1: docker.io/library/nginx: none of its 5 tags is meant: not found team/app:v1"},
		"absent, rest": {"docker.io: {images: {nosuch: [], team/app: [v1]}}", "list.yaml:1: docker.io/library/nosuch: not found team/app:v1"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := mirror.Parse("list.yaml", []byte(c.file))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for ref, err := range l.Sources[0].Refs(t.Context(), tags) {
				if err != nil {
					got = append(got, err.Error())
					continue
				}
				got = append(got, strings.TrimPrefix(ref.String(), l.Sources[0].Host+"/"))
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	l, err := mirror.Parse("l", []byte("a.example:\n  to: b.example/x\n  platform: linux/arm64\n  referrers: true\n  images: {one: [v1]}\nlocalhost:\n  images: {two: []}\n"))
	if err != nil || len(l.Sources) != 2 {
		t.Fatal(err, l)
	}
	s := l.Sources[0]
	if s.Host != "a.example" || s.To != "b.example/x" || s.Platform.Architecture != "arm64" || !s.Referrers || s.Rules[0].Repo != "a.example/one" || s.Rules[0].Pos != "l:5" {
		t.Errorf("%+v", s)
	}
	for file, want := range map[string]string{
		"":    "l: names no registry",
		"[a]": "l:1: want a registry for each key",
		"a.example: {images: {x: [y]}}\na.example: {images: {x: [y]}}": "comes twice",
		"hub: {images: {x: []}}":                                      `"hub" is not the name of a registry`,
		"a.example/b: {images: {x: []}}":                              "repositories are named below images",
		"a.example: {}":                                               "nothing is to be copied",
		"a.example:\n  imgs: {x: []}":                                 "l:2: imgs is not known",
		"a.example: {images: {X: []}}":                                `"X" is not the name of a repository`,
		"a.example: {images: {'x:1': []}}":                            `"x:1" is not the name`,
		"a.example: {images: {../x: []}}":                             "is not the name of a repository",
		"a.example: {images: {x: y}}":                                 "want a list of tags",
		"a.example: {images: {x: ['-y']}}":                            `"-y" is not a tag`,
		"a.example: {images: {x: ['sha256:12']}}":                     "neither a tag nor a digest",
		"a.example: {images: {x: [{a: b}]}}":                          "want a text",
		"a.example: {images-by-tag-regex: {x: '('}}":                  "missing closing )",
		"a.example: {images-by-tag-regex: {x: {last: 1}}}":            "regex is missing",
		"a.example: {images-by-semver: {x: one}}":                     `"one" is no version`,
		"a.example: {images-by-semver: {x: {range: '>1', first: 1}}}": "first is not known",
		"a.example: {images-by-last: {x: 0}}":                         "want a number",
		"a.example: {platform: '//', images: {x: []}}":                "invalid platform",
		"a.example: {referrers: perhaps, images: {x: []}}":            "want true or false",
		"a.example: {credentials: {username: x}}":                     "do not belong",
		"a.example: {tls-verify: false}":                              "registries.toml",
		"a.example: &x {images: *x}":                                  "without anchors",
		"a: b: c":                                                     "l: ",
	} {
		_, err := mirror.Parse("l", []byte(file))
		var e *mirror.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", file, err, want)
		}
	}
}

func TestDestination(t *testing.T) {
	for _, c := range [][3]string{
		{"m.example", "docker.io/library/nginx", "m.example/library/nginx"},
		{"m.example/hub/", "docker.io/library/nginx", "m.example/hub/library/nginx"},
		{"localhost:5000", "q.example/a/b", "localhost:5000/a/b"},
		{"team/x", "q.example/a", "docker.io/team/x/a"},
	} {
		if got, err := mirror.Destination(c[0], c[1]); got != c[2] || err != nil {
			t.Errorf("%s of %s: %s, %v; want %s", c[1], c[0], got, err, c[2])
		}
	}
	for _, to := range []string{"team", "", "m.example/UPPER", "m.example/a:1"} {
		if got, err := mirror.Destination(to, "q.example/a"); err == nil {
			t.Errorf("%q: %s", to, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("docker.io: {images: {nginx: ['1.9']}, images-by-semver: {a: {range: '^1 || ~2', last: 3}}}"))
	f.Add([]byte("localhost:5000:\n  to: x.example\n  images-by-tag-regex:\n    a: ^v\n  images-by-last: {a: 2}\n"))
	f.Add([]byte("a.example: &x {images: *x}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := mirror.Parse("l", data)
		if err != nil {
			return
		}
		tags := []string{"1", "v1.2", "1.2-rc1", "latest"}
		for _, s := range l.Sources {
			for _, r := range s.Rules {
				if chosen := r.Choose(tags); slices.ContainsFunc(chosen, func(c string) bool { return !slices.Contains(tags, c) }) {
					t.Errorf("chose %q", chosen)
				}
				if ref, err := registry.ParseRef(r.Repo); err != nil || ref.Repo != r.Repo {
					t.Errorf("repository %q: %v", r.Repo, err)
				}
			}
		}
	})
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{">=1.20 <2", "^1.2 || ~3.4.1", "1.2.x", ">= 0", "*", "!=1-rc"} {
		f.Add(s, "1.2.3")
	}
	f.Fuzz(func(t *testing.T, s, tag string) {
		r, err := mirror.ParseRange(s)
		v, ok := mirror.ParseVersion(tag)
		if ok {
			if again, ok := mirror.ParseVersion(v.String()); !ok || again.Compare(v) != 0 {
				t.Errorf("%q prints as %q", tag, v)
			}
		}
		if err == nil && ok {
			r.Holds(v)
		}
	})
}
