package registry_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
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

// Interoperation with tools that are not ours: Debian's packages skopeo, podman and umoci,
// which the test set-up installs. Where it ran (CI or NACRE_INTEROP is set) a
// missing tool is a failure.

// run runs a tool and returns what it printed.
func run(t *testing.T, tool string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		if os.Getenv("CI") != "" || os.Getenv("NACRE_INTEROP") != "" {
			t.Fatalf("%s is not installed; scripts/setup installs it", tool)
		}
		t.Skipf("%s is not installed (scripts/setup installs it)", tool)
	}
	switch tool {
	case "podman":
		dir := os.Getenv("NACRE_TEST_PODMAN") // of its own: nothing of the user's is touched
		args = append([]string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}, args...)
	case "skopeo":
		args = append([]string{"--insecure-policy"}, args...)
	}
	cmd := exec.Command(path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String()
}

// samples are what is sent to and fro: layers uncompressed, as built, and gzip, as pulled.
func samples() map[string]registrytest.Image {
	return map[string]registrytest.Image{
		"localhost/plain:1":              registrytest.Hello("plain"),
		"localhost:5000/deep/er/gzip:v2": registrytest.Hello("gzip", image.TypeLayerGzip),
		"docker.io/library/schema2:3":    registrytest.Hello("schema2", image.TypeDockerLayerGzip),
	}
}

// source is a registry holding one image.
func source(t *testing.T, name string, img registrytest.Image) *mem.Registry {
	r := mem.New()
	registrytest.Put(t, r, registrytest.Ref(name), img)
	return r
}

func copyAll(t *testing.T, dst registry.Writer, src registry.Reader, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := registry.Copy(t.Context(), dst, registry.Ref{}, src, registrytest.Ref(name), registry.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// writeArchive saves one image to a file.
func writeArchive(t *testing.T, kind archive.Kind, name string, img registrytest.Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := archive.Create(f, kind)
	copyAll(t, w, source(t, name, img), name)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func writeLayout(t *testing.T, name string, img registrytest.Image) string {
	t.Helper()
	dir := t.TempDir()
	l, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	copyAll(t, l, source(t, name, img), name)
	return dir
}

func openArchive(t *testing.T, path string) *archive.Archive {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	a, err := archive.Open(t.Context(), f, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// config returns the bytes of an image's config and its digest.
func config(img registrytest.Image) registrytest.Blob { return img.Blobs[len(img.Blobs)-2] }

func wantFile(t *testing.T, dir string, b registrytest.Blob) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, b.Digest.Encoded()))
	if err != nil {
		t.Error(err)
	} else if !bytes.Equal(got, b.Data) {
		t.Errorf("%s %s arrived with other bytes", b.MediaType, b.Digest)
	}
}

func TestSkopeoReadsDockerArchive(t *testing.T) {
	for name, img := range samples() {
		path := writeArchive(t, archive.Docker, name, img)
		dir := t.TempDir()
		run(t, "skopeo", "copy", "docker-archive:"+path+":"+name, "dir:"+dir)
		wantFile(t, dir, config(img))
		var got struct{ Layers []string }
		if err := json.Unmarshal([]byte(run(t, "skopeo", "inspect", "dir:"+dir)), &got); err != nil {
			t.Fatal(err)
		}
		cfg, err := image.ParseConfig(config(img).Data)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{cfg.RootFS.DiffIDs[0].String(), cfg.RootFS.DiffIDs[1].String()}
		if !slices.Equal(got.Layers, want) { // skopeo uncompresses them
			t.Errorf("%s: skopeo sees layers %q, want %q", name, got.Layers, want)
		}
	}
}

func TestSkopeoReadsOCI(t *testing.T) {
	for name, img := range samples() {
		tag := registrytest.Ref(name).Tag
		for _, ref := range []string{
			"oci-archive:" + writeArchive(t, archive.OCI, name, img),
			"oci-archive:" + writeArchive(t, archive.OCI, name, img) + ":" + tag,
			"oci-archive:" + writeArchive(t, archive.Docker, name, img) + ":" + tag,
			"oci:" + writeLayout(t, name, img),
			"oci:" + writeLayout(t, name, img) + ":" + tag,
		} {
			if img.Desc().MediaType == image.TypeDockerManifest && strings.HasSuffix(ref, ":"+tag) {
				continue // skopeo finds OCI manifests only by name
			}
			if raw := run(t, "skopeo", "inspect", "--raw", ref); raw != string(img.Blobs[3].Data) {
				t.Errorf("%s: skopeo sees manifest %s", ref, raw)
			}
			dir := t.TempDir()
			run(t, "skopeo", "copy", "--preserve-digests", ref, "dir:"+dir)
			for _, b := range img.Blobs[:3] {
				wantFile(t, dir, b)
			}
		}
	}
}

func TestSkopeoWrites(t *testing.T) {
	for name, img := range samples() {
		from := "oci:" + writeLayout(t, name, img)
		t.Run("docker-archive", func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.tar")
			run(t, "skopeo", "copy", from, "docker-archive:"+path+":"+name)
			a := openArchive(t, path)
			wantConfig(t, a, name, img)
		})
		for _, ref := range []string{"", ":" + name, ":" + registrytest.Ref(name).Tag} {
			t.Run("oci-archive"+ref, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "a.tar")
				run(t, "skopeo", "copy", "--preserve-digests", from, "oci-archive:"+path+ref)
				wantSame(t, openArchive(t, path), strings.TrimPrefix(ref, ":"), img)
			})
			t.Run("oci"+ref, func(t *testing.T) {
				dir := t.TempDir()
				run(t, "skopeo", "copy", "--preserve-digests", from, "oci:"+dir+ref)
				l, err := layout.Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				wantSame(t, l, strings.TrimPrefix(ref, ":"), img)
			})
		}
	}
}

// reader is a medium that was written by another tool.
type reader interface {
	registry.Reader
	registry.Lister
}

// wantSame checks an image that was passed on as it was, down to the digest of its manifest.
func wantSame(t *testing.T, r reader, name string, img registrytest.Image) {
	t.Helper()
	ref := registry.Ref{Tag: name}
	if strings.Contains(name, "/") {
		ref = registrytest.Ref(name)
	}
	d, err := r.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if d.Digest != img.Desc().Digest {
		t.Errorf("%q is %s, was %s", name, d.Digest, img.Desc().Digest)
	}
	registrytest.Check(t, r, "", img)
}

// wantConfig checks an image that came by way of docker's format: the config and so the image ID
// and the layers' content are the same. It copies it out whole, which verifies all.
func wantConfig(t *testing.T, r reader, name string, img registrytest.Image) {
	t.Helper()
	ref := registrytest.Ref(name)
	dst := mem.New()
	d, err := registry.Copy(t.Context(), dst, ref, r, ref, registry.CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := registrytest.Get(t.Context(), dst, ref.Repo, d)
	if err != nil {
		t.Fatal(err)
	}
	m, err := image.ParseManifest(data)
	if err != nil {
		t.Fatal(err)
	}
	if m.Config.Digest != config(img).Digest {
		t.Errorf("%s has config %s, had %s", name, m.Config.Digest, config(img).Digest)
	}
	cfg, err := image.ParseConfig(config(img).Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := image.Validate(cfg, m); err != nil {
		t.Error(err)
	}
}
