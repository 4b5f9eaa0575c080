package compare

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"nacre/internal/layer"

	"golang.org/x/sys/unix"
)

// write makes a layer of files.
func write(t testing.TB, files ...layer.File) *layer.Layer {
	t.Helper()
	dir := t.TempDir()
	_, err := layer.Write(context.Background(), dir, func(yield func(layer.File, error) bool) {
		for _, f := range files {
			if !yield(f, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := layer.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func file(name, data string, with ...func(*layer.File)) layer.File {
	f := layer.File{Entry: layer.Entry{Name: name, Mode: unix.S_IFREG | 0o644, Size: int64(len(data)), ModTime: time.Unix(1000, 0)}}
	f.Open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data)), nil }
	for _, w := range with {
		w(&f)
	}
	return f
}

func object(name string, mode uint32, link string) layer.File {
	return layer.File{Entry: layer.Entry{Name: name, Mode: mode, Link: link, ModTime: time.Unix(1000, 0)}}
}

func TestLayers(t *testing.T) {
	long := strings.Repeat("line\n", 40_000) // several blocks
	tests := []struct {
		name string
		a, b []layer.File
		want []string
	}{
		{name: "same", a: []layer.File{file("f", "x"), file("g", long)}, b: []layer.File{file("f", "x"), file("g", long)}},
		{name: "line", a: []layer.File{file("f", "one\ntwo\nthree\n")}, b: []layer.File{file("f", "one\ntwice\nthree\n")},
			want: []string{`f content @6 line 2 "two" "twice"`}},
		{name: "far", a: []layer.File{file("f", long+"end\n")}, b: []layer.File{file("f", long+"END\n")},
			want: []string{`f content @200000 line 40001 "end" "END"`}},
		{name: "bytes", a: []layer.File{file("f", "ab\x00\x01\x02")}, b: []layer.File{file("f", "ab\x00\x01\x03\x04")},
			want: []string{`f content @4 line 0 02 03 04`}},
		{name: "end", a: []layer.File{file("f", "a\n")}, b: []layer.File{file("f", "a\nb\n")}, want: []string{`f content @2 line 2 "" "b"`}},
		{name: "newline", a: []layer.File{file("f", "a")}, b: []layer.File{file("f", "a\n")}, want: []string{`f content @1 line 0 end of file 0a`}},
		{name: "block", a: []layer.File{file("f", long[:block])}, b: []layer.File{file("f", long[:block]+"x")},
			want: []string{fmt.Sprintf(`f content @%d line %d "l" "lx"`, block, block/5+1)}},
		{name: "names", a: []layer.File{file("a/b", ""), file("a.b", ""), file("c", "")}, b: []layer.File{file("a/b", ""), file("a/c", ""), file("c", "")},
			want: []string{`a/c missing @0 line 0  file`, `a.b missing @0 line 0 file `}},
		{name: "kinds", a: []layer.File{file("f", "x"), object("w", 0, "")}, b: []layer.File{object("f", unix.S_IFLNK|0o777, "x"), object("w", unix.S_IFIFO|0o600, "")},
			want: []string{`f type @0 line 0 file symlink`, `w type @0 line 0 deleted named pipe`}},
		{name: "metadata", a: []layer.File{file("f", "x")},
			b: []layer.File{file("f", "x", func(f *layer.File) {
				f.Mode, f.UID, f.GID, f.Xattrs, f.ModTime = unix.S_IFREG|0o4755, 5, 6, map[string]string{"user.a": "v"}, time.Unix(1001, 0)
			})},
			want: []string{`f mode @0 line 0 0644 4755`, `f owner @0 line 0 0:0 5:6`, `f attribute user.a @0 line 0  "v"`,
				`f time @0 line 0 1970-01-01T00:16:40Z 1970-01-01T00:16:41Z`}},
		{name: "capabilities", a: []layer.File{file("f", "x")},
			b: []layer.File{file("f", "x", func(f *layer.File) {
				f.Xattrs = map[string]string{capabilityXattr: "\x01\x00\x00\x02\x00\x20\x00\x00" + strings.Repeat("\x00", 12)}
			})},
			want: []string{`f attribute security.capability @0 line 0  cap_net_raw=ep`}},
		{name: "links", a: []layer.File{file("h1", ""), hard("h2", "h1"), object("l", unix.S_IFLNK|0o777, "x")},
			b:    []layer.File{file("h1", ""), file("h2", ""), object("l", unix.S_IFLNK|0o777, "y")},
			want: []string{`h2 type @0 line 0 hard link file`, `l target @0 line 0 x y`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for i := range tt.a {
				tt.a[i].Whiteout = tt.a[i].Mode == 0 && !tt.a[i].Hard
			}
			got := list(t, write(t, tt.a...), write(t, tt.b...), Options{})
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n%q, want\n%q", got, tt.want)
			}
		})
	}
}

func hard(name, of string) layer.File {
	return layer.File{Entry: layer.Entry{Name: name, Hard: true, Link: of}}
}

func list(t *testing.T, a, b *layer.Layer, o Options) []string {
	t.Helper()
	var got []string
	for d, err := range Layers(context.Background(), a, b, o) {
		if err != nil {
			t.Fatal(err)
		}
		what := string(d.What)
		if d.Attr != "" {
			what += " " + d.Attr
		}
		got = append(got, fmt.Sprintf("%s %s @%d line %d %s %s", d.Name, what, d.Offset, d.Line, d.First, d.Second))
	}
	return got
}

func TestLayersSkipTimes(t *testing.T) {
	a := write(t, file("f", "x"))
	b := write(t, file("f", "x", func(f *layer.File) { f.ModTime = time.Unix(5, 0) }))
	if got := list(t, a, b, Options{SkipTimes: true}); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	if got := list(t, a, b, Options{}); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

func TestLayersStops(t *testing.T) {
	a, b := write(t, file("a", ""), file("b", "")), write(t)
	n := 0
	for range Layers(context.Background(), a, b, Options{}) {
		n++
		break
	}
	if n != 1 {
		t.Error("nothing was yielded")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, err := range Layers(ctx, a, b, Options{}) {
		if err == nil {
			t.Error("no error of a context that ended")
		}
	}
}
