package layer_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"nacre/internal/layer"
)

// noise is n bytes that nothing makes smaller.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// program is this test's own: code, tables and text.
func program(t *testing.T) []byte {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data[:min(len(data), 6<<20)]
}

// TestCompressDense compares sizes with those of the standard library, which is as good as gzip: content
// of every kind must come out about as small, whatever is stored as it is.
func TestCompressDense(t *testing.T) {
	page, kib20, kib40 := noise(4<<10, 1), noise(20_000, 2), noise(40<<10, 3)
	var mixed, twice, archives []byte
	for i := range byte(60) {
		mixed = slices.Concat(mixed, words(int(i)*700, uint64(i)), noise(int(i)*900, i))
		twice = slices.Concat(twice, words(500, uint64(i)), kib20)
		archives = slices.Concat(archives, tarOf(t, int(i)*100), noise(30_000, i))
	}
	fives := noise(2<<20, 9)
	for i := range fives {
		fives[i] = fives[i]&0x1f | 0x60
	}
	packed, _ := pack(t, layer.Compression{Kind: layer.Gzip}, program(t), 1<<20)
	for name, c := range map[string]struct {
		data []byte
		more float64 // than the standard library's, at most, in parts of what it was
	}{
		"noise":                     {noise(3<<20+17, 4), 0.0005},
		"text":                      {words(3<<20, 5), 0.02},
		"program":                   {program(t), 0.03},
		"compressed program":        {packed, 0.002}, // another one with every change of the package
		"text and noise":            {mixed, 0.01},
		"small files in archives":   {archives, 0.01},
		"base64":                    {[]byte(base64.StdEncoding.EncodeToString(noise(2<<20, 6))), 0.01},
		"noise of five bits":        {fives, 0.01},
		"a page over and over":      {bytes.Repeat(page, 500), 0.03},
		"files that repeat nearby":  {twice, 0.03},
		"files that repeat too far": {bytes.Repeat(kib40, 60), 0.001},
	} {
		var want bytes.Buffer
		w := stdgzip.NewWriter(&want)
		w.Write(c.data)
		w.Close()
		got, _ := pack(t, layer.Compression{Kind: layer.Gzip}, c.data, 1<<20)
		was := float64(len(c.data))
		if more := float64(len(got)-want.Len()) / was; more > c.more {
			t.Errorf("%s: %.2f %% of its size, the standard library's %.2f %%", name, 100*float64(len(got))/was, 100*float64(want.Len())/was)
		}
		r, err := stdgzip.NewReader(bytes.NewReader(got))
		if err != nil {
			t.Fatal(err)
		}
		if back, err := io.ReadAll(r); err != nil || !bytes.Equal(back, c.data) {
			t.Errorf("%s: %d bytes of %d come back: %v", name, len(back), len(c.data), err)
		}
		t.Logf("%s: %.2f %%, the standard library %.2f %%", name, 100*float64(len(got))/was, 100*float64(want.Len())/was)
	}
}

// TestCompressDensePlaces has what repeats at every distance from the edges of pieces and blocks.
func TestCompressDensePlaces(t *testing.T) {
	for shift := range 70 {
		data := slices.Concat(noise(1<<20-8200+shift*61, 1), noise(20_000, 2), words(shift, 3), noise(20_000, 2))
		got, _ := pack(t, layer.Compression{Kind: layer.Gzip}, data, 1<<20)
		if most := len(data) - 9_000; len(got) > most {
			t.Errorf("shift %d: %d bytes of %d, want at most %d", shift, len(got), len(data), most)
		}
		if back := unpack(t, got); !bytes.Equal(back, data) {
			t.Errorf("shift %d: other bytes come back", shift)
		}
	}
}

// FuzzCompressDense puts content together of what is said in pairs of bytes: of what kind, and how much.
func FuzzCompressDense(f *testing.F) {
	f.Add([]byte{0, 200, 1, 3, 2, 90, 3, 20, 0, 16, 1, 1, 0, 255}, uint16(0))
	f.Add([]byte{2, 255, 3, 255, 2, 1, 3, 8, 0, 4, 0, 4}, uint16(777))
	f.Fuzz(func(t *testing.T, plan []byte, odd uint16) {
		var data []byte
		for i := 0; i+1 < len(plan) && len(data) < 4<<20; i += 2 {
			size := int(plan[i+1])*1024 + int(odd)%1024
			switch plan[i] % 4 {
			case 0:
				data = append(data, noise(size, byte(i))...)
			case 1:
				data = append(data, words(size, uint64(i))...)
			case 2:
				data = append(data, noise(size, 1)...) // the same as another time
			case 3:
				data = append(data, make([]byte, size)...)
			}
		}
		got, _ := pack(t, layer.Compression{Kind: layer.Gzip}, data, 1<<20)
		if back := unpack(t, got); !bytes.Equal(back, data) {
			t.Error("other bytes come back")
		}
		if most := len(data) + len(data)/1000 + 100; len(got) > most {
			t.Errorf("%d bytes became %d", len(data), len(got))
		}
	})
}
