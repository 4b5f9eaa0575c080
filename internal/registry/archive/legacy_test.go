package archive_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/archive"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"

	"github.com/opencontainers/go-digest"
)

// oldID is an image ID as docker before 1.10 gave them: random.
func oldID(n int) string { return fmt.Sprintf("%064x", 0xabc000+n) }

// oldImage is the folder of one image in an archive of docker before 1.10.
func oldImage(n, parent int, layer string, more string) []file {
	id := oldID(n)
	json := fmt.Sprintf(`{"id":%q,"created":"2015-06-0%dT10:11:12.123456789Z","container_config":{"Cmd":["/bin/sh","-c","#(nop) ADD %d"]},`+
		`"docker_version":"1.6.2","author":"old","config":{"Cmd":["/hello"],"Env":["A=%d"]},"architecture":"amd64","os":"linux","Size":7%s}`, id, n+1, n, n, more)
	if parent >= 0 {
		json = strings.Replace(json, `"created"`, fmt.Sprintf(`"parent":%q,"created"`, oldID(parent)), 1)
	}
	return []file{{name: id + "/", typ: '5'}, {name: id + "/VERSION", content: "1.0"}, {name: id + "/json", content: json}, {name: id + "/layer.tar", content: layer}}
}

// ancient is what docker 1.6 saved of two images, one made of the other.
func ancient(pack func([]byte) []byte, repositories string) []file {
	layer := func(s string) string { return string(pack(registrytest.Tar(s, s))) }
	files := append(oldImage(1, 0, layer("top"), ""), oldImage(0, -1, layer("base"), "")...)
	if repositories != "" {
		files = append(files, file{name: "repositories", content: repositories})
	}
	return files
}

func TestReadAncient(t *testing.T) {
	names := fmt.Sprintf(`{"localhost:5000/old":{"1.0":%q,"latest":%q},"base":{"b":%q}}`, oldID(1), oldID(1), oldID(0))
	var first registry.Descriptor
	for name, pack := range packers {
		a := open(t, tarOf(t, ancient(pack, names)...))
		var got []string
		for n, err := range a.Refs(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, n.Ref.String())
		}
		if want := "docker.io/library/base:b localhost:5000/old:1.0 localhost:5000/old:latest"; strings.Join(got, " ") != want {
			t.Errorf("%s: names %q, want %q", name, got, want)
		}
		dst := mem.New()
		ref := registrytest.Ref("localhost:5000/old")
		d, err := registry.Copy(t.Context(), dst, ref, a, ref, registry.CopyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		data, _ := registrytest.Get(t.Context(), dst, "", d)
		m, err := image.ParseManifest(data)
		if err != nil {
			t.Fatal(err)
		}
		if first.Digest == "" {
			first = m.Config
		}
		if m.Config.Digest != first.Digest {
			t.Errorf("layers %s give config %s, others %s", name, m.Config.Digest, first.Digest)
		}
		data, _ = registrytest.Get(t.Context(), dst, "", m.Config)
		cfg, err := image.ParseConfig(data)
		if err != nil {
			t.Fatal(err)
		}
		if err := image.Validate(cfg, m); err != nil {
			t.Error(err)
		}
		if want := digest.FromBytes(registrytest.Tar("base", "base")); cfg.RootFS.DiffIDs[0] != want {
			t.Errorf("the first layer is %s, want %s", cfg.RootFS.DiffIDs[0], want)
		}
		if h := cfg.History; len(h) != 2 || h[0].CreatedBy != "/bin/sh -c #(nop) ADD 0" || h[1].Created.Day() != 2 {
			t.Errorf("history %+v", h)
		}
		if cfg.Config.Env[0] != "A=1" || cfg.Author != "old" || strings.Contains(string(data), `"Size"`) || strings.Contains(string(data), `"id"`) {
			t.Errorf("config %s", data)
		}
	}
}

// TestReadAncientUnnamed: docker save of an ID wrote no repositories. Only images that are nobody's parent count.
func TestReadAncientUnnamed(t *testing.T) {
	a := open(t, tarOf(t, ancient(packers["plain"], "")...))
	n := 0
	for named, err := range a.Refs(t.Context()) {
		if err != nil || named.Ref.Tag != "" {
			t.Errorf("%+v, %v", named, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d images, want 1", n)
	}
}

func TestAncientHostile(t *testing.T) {
	plain := packers["plain"]
	good := ancient(plain, "")
	one := fmt.Sprintf(`{"x":{"1":%q}}`, oldID(1))
	for name, c := range map[string]struct {
		files []file
		want  error
		text  string
	}{
		"parents in a circle":         {append(oldImage(1, 0, "", ""), append(oldImage(0, 1, "", ""), file{name: "repositories", content: one})...), registry.ErrInvalid, "ancestors"},
		"no parent":                   {append(oldImage(1, 0, string(plain(nil)), ""), file{name: "repositories", content: one}), registry.ErrAbsent, oldID(0)},
		"json is none":                {append(good, file{name: oldID(2) + "/json", content: "{"}, file{name: oldID(2) + "/layer.tar"}), registry.ErrInvalid, "json"},
		"json of another":             {append(good, file{name: oldID(2) + "/json", content: `{"id":"x"}`}, file{name: oldID(2) + "/layer.tar"}), registry.ErrInvalid, `image "x"`},
		"parent with a path":          {append(good, file{name: oldID(2) + "/json", content: `{"parent":"../../etc"}`}, file{name: oldID(2) + "/layer.tar"}), registry.ErrInvalid, `"../../etc"`},
		"command of another type":     {append(good, file{name: oldID(2) + "/json", content: `{"container_config":{"Cmd":{}}}`}, file{name: oldID(2) + "/layer.tar"}), registry.ErrInvalid, oldID(2)},
		"config of another type":      {append(good, file{name: oldID(2) + "/json", content: `{"config":[]}`}, file{name: oldID(2) + "/layer.tar"}), registry.ErrInvalid, oldID(2)},
		"repositories of no ID":       {append(good, file{name: "repositories", content: `{"x":{"1":"../y"}}`}), registry.ErrInvalid, `"../y" is no ID`},
		"repositories of no image":    {append(good, file{name: "repositories", content: fmt.Sprintf(`{"x":{"1":%q}}`, oldID(9))}), registry.ErrAbsent, oldID(9)},
		"repositories is none":        {append(good, file{name: "repositories", content: `[]`}), registry.ErrInvalid, "repositories"},
		"a bad name":                  {append(good, file{name: "repositories", content: strings.Replace(one, `"x"`, `"../X"`, 1)}), registry.ErrInvalid, "../X"},
		"a layer that is a link out":  {append(oldImage(1, -1, "", "")[:3], file{name: oldID(1) + "/layer.tar", typ: '2', link: "../../../etc/passwd"}), registry.ErrInvalid, "leaves the archive"},
		"repositories and no image":   {[]file{{name: "repositories", content: "{}"}}, archive.ErrNoImages, "not an image archive"},
		"a layer whose gzip is short": {oldImage(1, -1, string(packers["gzip"](registrytest.Tar("a", strings.Repeat("x", 9999))))[:60], ""), nil, "unexpected EOF"},
	} {
		err := load(t.Context(), strings.NewReader(string(tarOf(t, c.files...))), t.TempDir())
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v with %q", name, err, c.want, c.text)
		}
	}
}

// TestDockerSaved reads what docker 20.10 saved of one image with two names.
func TestDockerSaved(t *testing.T) {
	f, err := os.Open("testdata/docker-20.10.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a, err := archive.Open(t.Context(), f, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	const config = "sha256:311be350e7997a2b0ebb20991212fb8fbb5cb01a54474e5af2c752e4fddaecdd" // as docker showed it
	for _, name := range []string{"app:1", "multi:1"} {
		ref := registrytest.Ref(name)
		dst := mem.New()
		d, err := registry.Copy(t.Context(), dst, ref, a, ref, registry.CopyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		data, _ := registrytest.Get(t.Context(), dst, "", d)
		if m, err := image.ParseManifest(data); err != nil || m.Config.Digest != config || len(m.Layers) != 1 {
			t.Errorf("%s: %s, %v", name, data, err)
		}
	}
}

// TestDockerSavedOld reads the part of it that older dockers are to understand, without what they did not write.
func TestDockerSavedOld(t *testing.T) {
	f, err := os.Open("testdata/docker-20.10.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var files []file
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg && h.Name != "manifest.json" && !strings.HasSuffix(h.Name, ".json") {
			files = append(files, file{name: h.Name, content: string(data)})
		}
	}
	a := open(t, tarOf(t, files...))
	ref := registrytest.Ref("app:1")
	dst := mem.New()
	d, err := registry.Copy(t.Context(), dst, ref, a, ref, registry.CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data, _ := registrytest.Get(t.Context(), dst, "", d)
	m, err := image.ParseManifest(data)
	if err != nil {
		t.Fatal(err)
	}
	data, _ = registrytest.Get(t.Context(), dst, "", m.Config)
	cfg, err := image.ParseConfig(data)
	if err != nil || cfg.OS != "linux" || cfg.Architecture != "amd64" || len(cfg.Config.Cmd) != 1 || image.Validate(cfg, m) != nil {
		t.Errorf("config %s, %v", data, err)
	}
}
