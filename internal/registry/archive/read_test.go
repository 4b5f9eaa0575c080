package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/archive"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
)

// file is one entry of a tar made by hand.
type file struct {
	name    string
	content string
	link    string // with typ
	typ     byte
	size    int64 // to lie with, in place of len(content)
}

// tarOf writes any tar, also a wrong one.
func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, f := range files {
		h := &tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o644, Linkname: f.link, Size: int64(len(f.content))}
		if f.typ != 0 {
			h.Typeflag = f.typ
		}
		if f.size != 0 {
			h.Size = f.size
		}
		if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		b.WriteString(f.content)
		b.Write(make([]byte, -len(f.content)&511))
	}
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

// legacy is what docker save wrote before version 25, of images that share layers: a folder per layer, and
// links to layers that are there already.
func legacy(t testing.TB, images map[string]registrytest.Image, pack func([]byte) []byte) []byte {
	files := []file{{name: "repositories", content: "{}"}}
	var items []string
	written := map[string]string{}
	n := 0
	for name, img := range images {
		cfg := img.Blobs[len(img.Blobs)-2]
		files = append(files, file{name: cfg.Digest.Encoded() + ".json", content: string(cfg.Data)})
		var layers []string
		for _, l := range img.Blobs[:len(img.Blobs)-2] {
			n++
			id := fmt.Sprintf("%064x", n)
			path := id + "/layer.tar"
			files = append(files, file{name: id + "/", typ: tar.TypeDir}, file{name: id + "/VERSION", content: "1.0"}, file{name: id + "/json", content: "{}"})
			if old, ok := written[l.Digest.Encoded()]; ok {
				files = append(files, file{name: path, typ: tar.TypeSymlink, link: "../" + old})
			} else {
				files = append(files, file{name: path, content: string(pack(l.Data))})
				written[l.Digest.Encoded()] = path
			}
			layers = append(layers, fmt.Sprintf("%q", path))
		}
		items = append(items, fmt.Sprintf(`{"Config":"%s.json","RepoTags":[%q],"Layers":[%s]}`, cfg.Digest.Encoded(), name, strings.Join(layers, ",")))
	}
	files = append(files, file{name: "manifest.json", content: "[" + strings.Join(items, ",") + "]\n"})
	return tarOf(t, files...)
}

func TestReadLegacy(t *testing.T) {
	images := map[string]registrytest.Image{"a:1": registrytest.Hello("a"), "localhost:5000/b:2": registrytest.Hello("b")}
	for name, pack := range packers {
		t.Run("layers "+name, func(t *testing.T) {
			a := open(t, legacy(t, images, pack))
			for name, img := range images {
				ref := registrytest.Ref(name)
				dst := mem.New()
				d, err := registry.Copy(t.Context(), dst, ref, a, ref, registry.CopyOptions{})
				if err != nil {
					t.Fatal(err)
				}
				registrytest.Check(t, dst, "", registrytest.Image{Blobs: img.Blobs[2:3]}) // the config, verbatim
				data, err := registrytest.Get(t.Context(), dst, "", d)
				if err != nil {
					t.Fatal(err)
				}
				m, err := image.ParseManifest(data)
				if err != nil {
					t.Fatal(err)
				}
				cfg, _ := image.ParseConfig(img.Blobs[2].Data)
				if err := image.Validate(cfg, m); err != nil {
					t.Error(err)
				}
				if again, err := open(t, legacy(t, images, pack)).Resolve(t.Context(), ref); err != nil || again.Digest != d.Digest {
					t.Errorf("another digest the second time: %s, %v", again.Digest, err)
				}
			}
		})
	}
}

// packers are all compressions there are.
var packers = map[string]func([]byte) []byte{
	"plain": func(p []byte) []byte { return p },
	"gzip": func(p []byte) []byte {
		return through(p, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	},
	"zstd": func(p []byte) []byte {
		return through(p, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
	},
	"xz": func(p []byte) []byte {
		return through(p, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })
	},
	"bzip2": func(p []byte) []byte { // the standard library only reads it; bzip2 is in every Debian
		cmd := exec.Command("bzip2", "-c")
		cmd.Stdin = bytes.NewReader(p)
		out, err := cmd.Output()
		if err != nil {
			panic(err)
		}
		return out
	},
}

func through(p []byte, open func(io.Writer) (io.WriteCloser, error)) []byte {
	var b bytes.Buffer
	w, err := open(&b)
	if err == nil {
		_, err = w.Write(p)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}

// TestOpenAnyStream: plain and compressed, from a file and from a pipe.
func TestOpenAnyStream(t *testing.T) {
	img := registrytest.Hello("any", image.TypeLayerGzip)
	var out bytes.Buffer
	save(t, &out, archive.Docker, "any", img)
	for name, pack := range packers {
		data := pack(out.Bytes())
		path := filepath.Join(t.TempDir(), "a.tar")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		scratch := t.TempDir()
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fromFile, err := archive.Open(t.Context(), f, scratch)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer fromFile.Close()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			w.Write(data)
			w.Close()
		}()
		fromPipe, err := archive.Open(t.Context(), r, scratch)
		if err != nil {
			t.Fatalf("%s from a pipe: %v", name, err)
		}
		defer fromPipe.Close()
		for _, a := range []*archive.Archive{fromFile, fromPipe} {
			if d, err := a.Resolve(t.Context(), registrytest.Ref("any")); err != nil || d.Digest != img.Desc().Digest {
				t.Errorf("%s: %s, %v", name, d.Digest, err)
			}
			registrytest.Check(t, a, "", img)
		}
		if left, _ := os.ReadDir(scratch); len(left) > 0 {
			t.Errorf("%s: left in scratch: %v", name, left)
		}
	}
}

// TestOpenAtOffset: a file is read from where it stands, as a shell's < gives it.
func TestOpenAtOffset(t *testing.T) {
	var out bytes.Buffer
	out.WriteString("before")
	save(t, &out, archive.OCI, "x", registrytest.Hello("x"))
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(6, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	a, err := archive.Open(t.Context(), f, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	registrytest.Check(t, a, "", registrytest.Hello("x"))
}

// TestOpenBomb: zeros without end cost neither disk nor memory, and end in an error.
func TestOpenBomb(t *testing.T) {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := tar.NewWriter(z).WriteHeader(&tar.Header{Name: "blobs/sha256/x", Typeflag: tar.TypeReg, Size: 10 << 30}); err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 3 << 10 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = archive.Open(t.Context(), bytes.NewReader(b.Bytes()), t.TempDir())
	if !errors.Is(err, archive.ErrLimit) {
		t.Errorf("error %v, want %v", err, archive.ErrLimit)
	}
	runtime.ReadMemStats(&after)
	if grown := after.Sys - before.Sys; int64(grown) > 64<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}
}

func TestOpenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	save(t, &out, archive.OCI, "x", registrytest.Hello("x"))
	if _, err := archive.Open(ctx, &out, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestOpenTruncated: an archive cut anywhere is refused, or whatever is missing is
// reported when it is read: never are wrong bytes returned.
func TestOpenTruncated(t *testing.T) {
	img := registrytest.Hello("cut", image.TypeLayerGzip)
	var out bytes.Buffer
	save(t, &out, archive.Docker, "cut", img)
	plain := out.Bytes()
	for name, data := range map[string][]byte{
		"plain": plain, "gzip": packers["gzip"](plain), "zstd": packers["zstd"](plain), "xz": packers["xz"](plain),
		"legacy": legacy(t, map[string]registrytest.Image{"cut": img}, packers["plain"]),
	} {
		whole := len(bytes.TrimRight(data, "\x00"))
		for n := 0; n < whole; n += 1 + n%97 {
			a, err := archive.Open(t.Context(), bytes.NewReader(data[:n]), t.TempDir())
			if err != nil {
				continue
			}
			_, err = registry.Copy(t.Context(), mem.New(), registry.Ref{}, a, registrytest.Ref("cut"), registry.CopyOptions{})
			a.Close()
			// Content is whole without oci-layout, the last file of ours, and without the footer of
			// xz, which our reader of xz does not miss. Copy has verified it.
			if err == nil && name != "plain" && (name != "xz" || n < len(data)-12) {
				t.Errorf("%s: cut at %d of %d and not noticed", name, n, whole)
			}
		}
	}
}
