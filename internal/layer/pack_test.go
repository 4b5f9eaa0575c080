package layer_test

import (
	"archive/tar"
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"nacre/internal/layer"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/opencontainers/go-digest"
)

var kinds = []layer.Compression{
	{}, {Kind: layer.Gzip}, {Kind: layer.Gzip, Level: layer.LevelStored}, {Kind: layer.Gzip, Level: 1}, {Kind: layer.Gzip, Level: 9},
	{Kind: layer.Zstd}, {Kind: layer.Zstd, Level: 1}, {Kind: layer.Zstd, Level: 19}, {Kind: layer.EStargz}, {Kind: layer.EStargz, Level: layer.LevelStored},
}

// words is n bytes of a text that compresses somewhat.
func words(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "%x line %d of file %d\n", r.Uint32(), r.IntN(1000), r.IntN(50))
		if r.IntN(50) == 0 {
			b.Write(make([]byte, r.IntN(4000)))
		}
	}
	return b.Bytes()[:n]
}

// tarOf has one file for each size.
func tarOf(t testing.TB, sizes ...int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, n := range sizes {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprint("file", i), Mode: 0o644, Size: int64(n)}); err != nil {
			t.Fatal(err)
		}
		w.Write(words(n, uint64(i)))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pack compresses data, written in pieces.
func pack(t testing.TB, c layer.Compression, data []byte, piece int) ([]byte, layer.Packed) {
	t.Helper()
	var out bytes.Buffer
	p, err := layer.Compress(&out, c)
	if err != nil {
		t.Fatal(err)
	}
	for part := data; len(part) > 0; part = part[min(piece, len(part)):] {
		if _, err := p.Write(part[:min(piece, len(part))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), p.Packed()
}

func unpack(t testing.TB, data []byte) []byte {
	t.Helper()
	r, _, err := layer.Decompress(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestCompressSame compresses with one worker and with several, in one piece and in many.
func TestCompressSame(t *testing.T) {
	data := tarOf(t, 100, 1<<20, 0, 3<<20|1, 1<<20)
	for _, c := range kinds {
		t.Run(c.Name(), func(t *testing.T) {
			cores := runtime.GOMAXPROCS(1)
			defer runtime.GOMAXPROCS(cores)
			want, _ := pack(t, c, data, len(data))
			for _, n := range []int{2, 7} {
				runtime.GOMAXPROCS(n)
				for range 2 {
					if got, _ := pack(t, c, data, 70_001); !bytes.Equal(got, want) {
						t.Fatalf("%d workers: other bytes", n)
					}
				}
			}
			if got := unpack(t, want); !bytes.HasPrefix(got, data) || c.Kind != layer.EStargz && len(got) != len(data) {
				t.Errorf("%d bytes come back, %d went in", len(got), len(data))
			}
			if max := len(data) * 7 / 10; len(want) > max && c.Level != layer.LevelStored && c.Kind != "" {
				t.Errorf("%d bytes of %d", len(want), len(data))
			}
		})
	}
}

// TestCompressEdges: nothing, and what ends at or beside the end of a block.
func TestCompressEdges(t *testing.T) {
	for _, n := range []int{0, 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 4<<20 + 1} {
		data := words(n, 9)
		for _, c := range kinds {
			if c.Kind == layer.EStargz {
				continue // of tars alone
			}
			packed, _ := pack(t, c, data, 1<<16)
			if c.Kind == layer.Gzip {
				r, err := stdgzip.NewReader(bytes.NewReader(packed))
				if err != nil {
					t.Fatal(err)
				}
				r.Multistream(false) // one member is all
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s of %d bytes: the standard library reads %d: %v", c.Name(), n, len(got), err)
				}
				if r.Name != "" || !r.ModTime.IsZero() {
					t.Errorf("the header tells of %q, %v", r.Name, r.ModTime)
				}
			}
			if c.Kind != "" && len(packed) == 0 {
				t.Errorf("%s of nothing is nothing", c.Name())
			} else if got := unpack(t, packed); !bytes.Equal(got, data) {
				t.Errorf("%s of %d bytes gives %d back", c.Name(), n, len(got))
			}
		}
	}
}

// TestCompressTools reads the forms with the programs that made them known.
func TestCompressTools(t *testing.T) {
	data := tarOf(t, 6<<20, 100)
	for _, c := range []struct {
		tool string
		c    layer.Compression
	}{{"gzip", layer.Compression{Kind: layer.Gzip}}, {"zstd", layer.Compression{Kind: layer.Zstd}}, {"gzip", layer.Compression{Kind: layer.EStargz}}} {
		packed, _ := pack(t, c.c, data, 1<<20)
		cmd := exec.Command(c.tool, "-dc")
		cmd.Stdin = bytes.NewReader(packed)
		got, err := cmd.Output()
		if err != nil || !bytes.HasPrefix(got, data) {
			t.Errorf("%s -d of %s: %d bytes, %v", c.tool, c.c.Name(), len(got), err)
		}
	}
}

// TestEStargz has the library that reads such layers read one.
func TestEStargz(t *testing.T) {
	for name, data := range map[string][]byte{"files": tarOf(t, 100, 5<<20), "nothing": tarOf(t)} {
		packed, p := pack(t, layer.Compression{Kind: layer.EStargz}, data, 1<<20)
		if got := digest.FromBytes(unpack(t, packed)); got != p.DiffID {
			t.Errorf("%s: it unpacks to %s, the diffID is said to be %s", name, got, p.DiffID)
		}
		r, err := estargz.Open(io.NewSectionReader(bytes.NewReader(packed), 0, int64(len(packed))))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.TOCDigest().String(); got != p.Annotations[estargz.TOCJSONDigestAnnotation] {
			t.Errorf("%s: table %s, the annotation says %v", name, got, p.Annotations)
		}
		if want := fmt.Sprint(len(data)); p.Annotations[estargz.StoreUncompressedSizeAnnotation] != want {
			t.Errorf("%s: want size %s: %v", name, want, p.Annotations)
		}
		if name == "nothing" {
			continue
		}
		f, err := r.OpenFile("file1")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, words(5<<20, 1)) {
			t.Errorf("file1 has %d bytes, %v", len(got), err)
		}
	}
	p, err := layer.Compress(io.Discard, layer.Compression{Kind: layer.EStargz})
	if err != nil {
		t.Fatal(err)
	}
	p.Write([]byte(strings.Repeat("no tar ", 1000)))
	if p.Close() == nil {
		t.Error("what is no tar became an eStargz layer")
	}
}

// full takes n bytes and no more.
type full struct{ n int }

var errFull = errors.New("full")

func (f *full) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestCompressFull(t *testing.T) {
	data := tarOf(t, 3<<20)
	for _, c := range kinds {
		for _, room := range []int{0, 5, 100_000} {
			p, err := layer.Compress(&full{room}, c)
			if err != nil {
				t.Fatal(err)
			}
			_, werr := p.Write(data)
			if err := p.Close(); !errors.Is(errors.Join(werr, err), errFull) {
				t.Errorf("%s with room for %d: %v, %v", c.Name(), room, werr, err)
			}
		}
	}
}

func TestCompressionNormal(t *testing.T) {
	for _, bad := range []layer.Compression{{Kind: "xz"}, {Kind: layer.Gzip, Level: 10}, {Kind: layer.Zstd, Level: 23}, {Kind: layer.Zstd, Level: -1}, {Kind: layer.EStargz, Level: -2}} {
		if _, err := layer.Compress(io.Discard, bad); err == nil {
			t.Errorf("%v is a compression", bad)
		}
	}
	data := words(300_000, 3)
	for level := 1; level <= 22; level++ {
		c := layer.Compression{Kind: layer.Zstd, Level: level}
		n, err := c.Normal()
		if err != nil {
			t.Fatal(err)
		}
		if n == c {
			continue
		}
		a, _ := pack(t, c, data, 1<<20)
		if b, _ := pack(t, n, data, 1<<20); !bytes.Equal(a, b) || c.Name() != n.Name() {
			t.Errorf("level %d gives other bytes than %d, %q and %q", level, n.Level, c.Name(), n.Name())
		}
	}
	names := map[string]bool{}
	for _, c := range kinds {
		if names[c.Name()] {
			t.Errorf("two of %q", c.Name())
		}
		names[c.Name()] = true
	}
}

func FuzzCompress(f *testing.F) {
	f.Add([]byte("hello"), uint8(0), uint16(3), uint16(1))
	f.Add(bytes.Repeat([]byte{0}, 3000), uint8(4), uint16(1024), uint16(900))
	f.Fuzz(func(t *testing.T, data []byte, kind uint8, piece, times uint16) {
		c := kinds[int(kind)%8] // not eStargz, which is of tars alone
		data = bytes.Repeat(data, min(int(times)%1000+1, 5<<20/(len(data)+1)+1))
		packed, _ := pack(t, c, data, int(piece)+1)
		if c.Kind == "" {
			if !bytes.Equal(packed, data) {
				t.Error("changed")
			}
		} else if got := unpack(t, packed); !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes of %d", c.Name(), len(got), len(data))
		}
	})
}
