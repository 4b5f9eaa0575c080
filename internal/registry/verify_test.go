package registry_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
)

func TestVerify(t *testing.T) {
	b := registrytest.NewBlob("text/plain", []byte(strings.Repeat("content ", 100_000)))
	for name, c := range map[string]struct {
		content string
		size    int64
		want    error
	}{
		"right":               {string(b.Data), b.Size, nil},
		"right, size unknown": {string(b.Data), 0, nil},
		"shorter":             {string(b.Data[1:]), b.Size, registry.ErrSize},
		"longer":              {string(b.Data) + "x", b.Size, registry.ErrSize},
		"other":               {strings.ToUpper(string(b.Data)), b.Size, registry.ErrDigest},
		"other, size unknown": {string(b.Data) + "x", 0, registry.ErrDigest},
		"empty":               {"", b.Size, registry.ErrSize},
		"empty, size unknown": {"", 0, registry.ErrDigest},
	} {
		d := b.Descriptor
		d.Size = c.size
		for how, wrap := range map[string]func(io.Reader) io.Reader{
			"plain": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "data with EOF": iotest.DataErrReader,
		} {
			r := registry.Verify(io.NopCloser(wrap(strings.NewReader(c.content))), d)
			if _, err := io.ReadAll(r); !errors.Is(err, c.want) {
				t.Errorf("%s, %s: %v, want %v", name, how, err, c.want)
			}
			if _, err := r.Read(make([]byte, 1)); c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s, %s: after the error: %v", name, how, err)
			}
		}
	}
	broken := registry.Verify(io.NopCloser(iotest.ErrReader(io.ErrClosedPipe)), b.Descriptor)
	if _, err := io.ReadAll(broken); err != io.ErrClosedPipe {
		t.Errorf("an error of the reader: %v", err)
	}
	if _, err := io.ReadAll(registry.Verify(io.NopCloser(strings.NewReader("")), registry.Descriptor{Digest: "x"})); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("a bad digest: %v", err)
	}
}

// TestCopyTo: all ways of copying copy the same and check the same.
func TestCopyTo(t *testing.T) {
	b := registrytest.NewBlob("text/plain", bytes.Repeat([]byte("0123456789abcde\n"), 50_000))
	path := filepath.Join(t.TempDir(), "blob")
	const before = "what comes before"
	if err := os.WriteFile(path, append([]byte(before), b.Data...), 0o600); err != nil {
		t.Fatal(err)
	}
	file := func() *os.File {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if _, err := f.Seek(int64(len(before)), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for name, r := range map[string]io.Reader{
		"memory":       bytes.NewReader(b.Data),
		"file":         file(),
		"limited file": &io.LimitedReader{R: file(), N: b.Size + 5},
		"file in two":  io.MultiReader(io.LimitReader(file(), 1000), bytes.NewReader(b.Data[1000:])),
	} {
		for _, off := range []int64{0, -1, +1} {
			if off != 0 && name != "file" && name != "limited file" {
				continue
			}
			if off != 0 {
				r = file()
			}
			d := b.Descriptor
			d.Size += off
			out, err := os.Create(filepath.Join(t.TempDir(), "out"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			c, err := registry.NewChecker(d)
			if err != nil {
				t.Fatal(err)
			}
			n, err := c.CopyTo(out, r)
			if err == nil {
				err = c.Check()
			}
			if off != 0 {
				if !errors.Is(err, registry.ErrSize) {
					t.Errorf("%s, size off by %d: %v", name, off, err)
				}
				continue
			}
			got, _ := os.ReadFile(out.Name())
			if err != nil || n != b.Size || !bytes.Equal(got, b.Data) {
				t.Errorf("%s: %d bytes, %v; want %d", name, n, err, b.Size)
			}
			if lr, ok := r.(*io.LimitedReader); ok && lr.N != 5 {
				t.Errorf("%s: %d left of the limit, want 5", name, lr.N)
			}
		}
	}
}
