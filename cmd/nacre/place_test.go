package main

import (
	"testing"

	"nacre/internal/layer"
)

const placeDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParsePlace(t *testing.T) {
	for s, want := range map[string]struct{ kind, path, ref string }{
		"nginx":                                {"docker", "nginx", "docker.io/library/nginx:latest"},
		"docker://nginx:1":                     {"docker", "nginx:1", "docker.io/library/nginx:1"},
		"localhost:5000/a/b@" + placeDigest:    {"docker", "localhost:5000/a/b@" + placeDigest, "localhost:5000/a/b@" + placeDigest},
		"oci:dir":                              {"oci", "dir", ""},
		"oci:/a/b:tag":                         {"oci", "/a/b", ":tag"},
		"oci:dir:q.example/x:1":                {"oci", "dir", "q.example/x:1"},
		"oci:dir:V1.0":                         {"oci", "dir", ":V1.0"},
		"oci:dir@" + placeDigest:               {"oci", "dir", "@" + placeDigest},
		"oci-archive:f.tar":                    {"oci-archive", "f.tar", ""},
		"oci-archive:-:app:1":                  {"oci-archive", "-", "docker.io/library/app:1"},
		"docker-archive:f.tar:app":             {"docker-archive", "f.tar", "docker.io/library/app:latest"},
		"docker-archive:f.tar@" + placeDigest:  {"docker-archive", "f.tar", "@" + placeDigest},
		"store:app":                            {"store", "app", "docker.io/library/app:latest"},
		"nacre:app:2":                          {"store", "app:2", "docker.io/library/app:2"},
		"docker-archive:f.tar:q.example/app:2": {"docker-archive", "f.tar", "q.example/app:2"},
	} {
		p, err := parsePlace(s)
		if err != nil || p.kind != want.kind || p.path != want.path || p.ref.String() != want.ref {
			t.Errorf("%q: %+v, %v; want %+v", s, p, err, want)
		}
		// What is shown of it means the same.
		if again, err := parsePlace(p.String()); err != nil || again.ref != p.ref || again.kind != p.kind {
			t.Errorf("%q is shown as %q, which is %+v, %v", s, p, again, err)
		}
	}
	for _, bad := range []string{"", "oci:", "oci::tag", "docker://", "docker://UPPER", "dir://x", "oci:dir:a b", "oci:dir@sha256:12", "store:", "store:A B"} {
		if p, err := parsePlace(bad); err == nil {
			t.Errorf("%q is %+v", bad, p)
		}
	}
}

func FuzzParsePlace(f *testing.F) {
	for _, s := range []string{"nginx", "oci:dir:q.example/x:1", "oci:d@" + placeDigest, "docker-archive:-:a:b", "store:x", "a://b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePlace(s)
		if err == nil && p.kind != "docker" && p.path == "" {
			t.Errorf("%q has no path", s)
		}
	})
}

func TestParseCompression(t *testing.T) {
	for s, want := range map[string]layer.Compression{
		"gzip": {Kind: layer.Gzip}, "zstd:9": {Kind: layer.Zstd, Level: 9}, "gzip:0": {Kind: layer.Gzip, Level: layer.LevelStored}, "uncompressed": {Kind: layer.Uncompressed},
	} {
		if c, err := parseCompression(s); err != nil || c != want {
			t.Errorf("%q: %+v, %v; want %+v", s, c, err, want)
		}
	}
	for _, bad := range []string{"", "xz", "gzip:", "gzip:x", "gzip:-1", "gzip:99", "uncompressed:3"} {
		if c, err := parseCompression(bad); err == nil {
			t.Errorf("%q is %+v", bad, c)
		}
	}
}
