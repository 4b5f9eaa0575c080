package registry_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/archive"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
)

func TestPodmanLoadsAndSaves(t *testing.T) {
	t.Setenv("NACRE_TEST_PODMAN", t.TempDir())
	images := samples()
	for name, img := range images {
		for _, kind := range []archive.Kind{archive.Docker, archive.OCI} {
			out := run(t, "podman", "load", "-q", "-i", writeArchive(t, kind, name, img))
			if !strings.Contains(out, name) {
				t.Errorf("podman load of kind %d says %q, not %s", kind, out, name)
			}
			id := strings.TrimSpace(run(t, "podman", "image", "inspect", "-f", "{{.Id}}", name))
			if id != config(img).Digest.Encoded() {
				t.Errorf("podman has %s as %s, not %s", name, id, config(img).Digest)
			}
		}
		for _, format := range []string{"docker-archive", "oci-archive"} {
			path := filepath.Join(t.TempDir(), "saved.tar")
			run(t, "podman", "save", "-q", "--format", format, "-o", path, name)
			if format == "oci-archive" && img.Desc().MediaType == image.TypeDockerManifest {
				continue // podman makes another config for OCI: there is nothing to compare
			}
			wantConfig(t, openArchive(t, path), name, img)
		}
	}
	// All in one: layers they share are links to each other.
	path := filepath.Join(t.TempDir(), "many.tar")
	args := []string{"save", "-q", "-m", "-o", path}
	for name := range images {
		args = append(args, name)
	}
	run(t, "podman", args...)
	a := openArchive(t, path)
	for name, img := range images {
		wantConfig(t, a, name, img)
	}
}

func TestUmociReadsAndWrites(t *testing.T) {
	img := registrytest.Hello("umoci")
	dir := writeLayout(t, "localhost/hello:1", img)
	if tags := strings.TrimSpace(run(t, "umoci", "ls", "--layout", dir)); tags != "1" {
		t.Errorf("umoci sees tags %q", tags)
	}
	bundle := filepath.Join(t.TempDir(), "bundle")
	run(t, "umoci", "unpack", "--image", dir+":1", bundle)
	got, err := os.ReadFile(filepath.Join(bundle, "rootfs/hello"))
	if err != nil || string(got) != "hello from umoci" {
		t.Errorf("umoci unpacked %q, %v", got, err)
	}

	// What it changes in our layout, we read; what we had stays.
	run(t, "umoci", "config", "--image", dir+":1", "--tag", "2", "--config.cmd", "/other")
	file := filepath.Join(t.TempDir(), "new")
	if err := os.WriteFile(file, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "umoci", "insert", "--image", dir+":2", file, "/new")
	run(t, "umoci", "gc", "--layout", dir)
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, l, "localhost/hello:1", img)
	var names []string
	for n, err := range l.Refs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, n.Ref.String())
	}
	if want := []string{"localhost/hello:1", "localhost/hello:2"}; !slices.Equal(names, want) {
		t.Errorf("after umoci: %q, want %q", names, want)
	}
	changed := registry.Ref{Repo: "localhost/hello", Tag: "2"}
	dst := mem.New()
	d, err := registry.Copy(t.Context(), dst, changed, l, changed, registry.CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := registrytest.Get(t.Context(), dst, changed.Repo, d)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := image.ParseManifest(data); err != nil || len(m.Layers) != 3 {
		t.Errorf("umoci's image: %+v, %v; want 3 layers", m, err)
	}
}
