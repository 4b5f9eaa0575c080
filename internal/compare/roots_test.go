package compare

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

// opened counts files that are read.
func changes(t *testing.T, a, b *rootfs.FS, o RootOptions) []string {
	t.Helper()
	var got []string
	for c, err := range Roots(context.Background(), a, b, o) {
		if err != nil {
			t.Fatal(err)
		}
		s := "C " + c.Name
		if c.A == nil {
			s = "A " + c.Name
		} else if c.B == nil {
			s = "D " + c.Name
		}
		for _, d := range c.What {
			s += " " + string(d.What)
		}
		got = append(got, s)
	}
	return got
}

func whiteout(name string) layer.File {
	return layer.File{Entry: layer.Entry{Name: name, Whiteout: true}}
}

func TestRoots(t *testing.T) {
	dir := object("d", unix.S_IFDIR|0o755, "")
	base := write(t, dir, file("d/a", "a"), file("d/b", "b"), file("e", "e"), file("z/x", "x"), file("z.d/x", "x"))
	up := write(t, whiteout("d/a"), file("d/b", "bb"), file("new/file", "n"), object("z.d", unix.S_IFLNK|0o777, "z"))
	same := write(t, file("e", "e", func(f *layer.File) { f.UID, f.ModTime = 0, f.ModTime.AddDate(1, 0, 0) }))
	opaque := write(t, layer.File{Entry: layer.Entry{Name: "d", Mode: unix.S_IFDIR | 0o700, Opaque: true, ModTime: file("x", "").ModTime}}, file("d/b", "b"))
	for name, c := range map[string]struct {
		a, b []*layer.Layer
		o    RootOptions
		want []string
	}{
		"same":     {a: []*layer.Layer{base, up}, b: []*layer.Layer{base, up}, o: RootOptions{Shared: 2}},
		"unshared": {a: []*layer.Layer{base, up}, b: []*layer.Layer{base, up}},
		"over": {a: []*layer.Layer{base}, b: []*layer.Layer{base, up}, o: RootOptions{Shared: 1},
			want: []string{"D d/a", "C d/b size content", "A new", "A new/file", "C z.d type", "D z.d/x"}},
		"under": {a: []*layer.Layer{base, up}, b: []*layer.Layer{base}, o: RootOptions{Shared: 1},
			want: []string{"A d/a", "C d/b size content", "D new", "D new/file", "C z.d type", "A z.d/x"}},
		"times":    {a: []*layer.Layer{base}, b: []*layer.Layer{base, same}, o: RootOptions{Shared: 1}, want: []string{"C e time"}},
		"no times": {a: []*layer.Layer{base}, b: []*layer.Layer{base, same}, o: RootOptions{Shared: 1, SkipTimes: true}},
		"opaque":   {a: []*layer.Layer{base}, b: []*layer.Layer{base, opaque}, o: RootOptions{Shared: 1}, want: []string{"C d mode", "D d/a"}},
		"nothing":  {b: []*layer.Layer{opaque}, want: []string{"A d", "A d/b"}},
		"wanted": {a: []*layer.Layer{base}, b: []*layer.Layer{base, up}, o: RootOptions{Shared: 1, Want: func(name string) Part {
			switch {
			case name == "." || name == "d":
				return Inside
			case name == "d/b":
				return All
			}
			return Nothing
		}}, want: []string{"C d/b size content"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := changes(t, rootfs.NewFS(c.a...), rootfs.NewFS(c.b...), c.o); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// TestRootsLinks: files with several names are told by their first name that is in both roots.
func TestRootsLinks(t *testing.T) {
	linked := write(t, file("a", "x"), hard("b", "a"), hard("c", "a"), file("d", "x"))
	copied := write(t, file("a", "x"), file("b", "x"), hard("c", "b"), hard("d", "b"))
	fewer := write(t, file("b", "x"), hard("c", "b"), file("d", "x"))
	broken := write(t, file("b", "x"))
	for name, c := range map[string]struct {
		a, b []*layer.Layer
		o    RootOptions
		want []string
	}{
		"same":              {a: []*layer.Layer{linked}, b: []*layer.Layer{linked}},
		"other links":       {a: []*layer.Layer{linked}, b: []*layer.Layer{copied}, want: []string{"C b link a -> ", "C c link a -> b", "C d link  -> b"}},
		"the first is gone": {a: []*layer.Layer{linked}, b: []*layer.Layer{fewer}, want: []string{"D a"}},
		"flat":              {a: []*layer.Layer{linked, broken}, b: []*layer.Layer{write(t, file("a", "x"), file("b", "x"), hard("c", "a"), file("d", "x"))}},
		"copied in a layer": {a: []*layer.Layer{linked}, b: []*layer.Layer{linked, broken}, o: RootOptions{Shared: 1}, want: []string{"C b link a -> "}},
		"not what is wanted": {a: []*layer.Layer{linked}, b: []*layer.Layer{copied}, o: RootOptions{Want: func(name string) Part {
			return map[string]Part{".": Inside, "a": All}[name]
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for c, err := range Roots(t.Context(), rootfs.NewFS(c.a...), rootfs.NewFS(c.b...), c.o) {
				if err != nil {
					t.Fatal(err)
				}
				if c.B == nil {
					got = append(got, "D "+c.Name)
				}
				for _, d := range c.What {
					got = append(got, fmt.Sprintf("C %s %s %s -> %s", c.Name, d.What, d.First, d.Second))
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// TestRootsShared: what only layers have that both roots share is not read, however it came to be there.
func TestRootsShared(t *testing.T) {
	base := write(t, file("a/b/c", "x"), file("f", "x"))
	// The same content in another layer would have to be read: with a file that cannot be, an error.
	broken := write(t, file("f", strings.Repeat("y", 100)))
	other := write(t, file("f", strings.Repeat("y", 100)))
	a, b := rootfs.NewFS(base, broken), rootfs.NewFS(base, other)
	if got := changes(t, a, b, RootOptions{Shared: 1}); len(got) > 0 {
		t.Errorf("%q", got)
	}
	if !a.Within("a", 1) || a.Within(".", 1) || a.Within("f", 1) || a.Within("none", 1) {
		t.Error("Within is wrong")
	}
}

func TestRootsStops(t *testing.T) {
	a, b := rootfs.NewFS(write(t, file("a", ""), file("b", ""))), rootfs.NewFS()
	n := 0
	for range Roots(t.Context(), a, b, RootOptions{}) {
		n++
		break
	}
	if n != 1 {
		t.Error("nothing was yielded")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n = 0
	for _, err := range Roots(ctx, a, b, RootOptions{}) {
		if n++; err == nil {
			t.Error("no error of a context that ended")
		}
	}
	if n != 1 {
		t.Errorf("%d yields", n)
	}
}

func TestConfigs(t *testing.T) {
	a, b := image.Config{}, image.Config{}
	a.Config.Env, b.Config.Env = []string{"A=1", "B=2", "C=3"}, []string{"C=3", "A=", "D=4"}
	a.Config.Cmd, b.Config.Entrypoint = []string{"x y"}, []string{"z"}
	b.Config.ExposedPorts = map[string]struct{}{"80/tcp": {}}
	a.Config.Labels = map[string]string{"l": "<"}
	b.Architecture = "arm64"
	var got []string
	for _, f := range Configs(a, b) {
		got = append(got, fmt.Sprintf("%s %s %s %v %s %v", f.Name, f.Key, f.A, f.HasA, f.B, f.HasB))
	}
	want := []string{`platform  / true /arm64 true`, `entrypoint   false ["z"] true`, `cmd  ["x y"] true  false`, `env A 1 true  true`, `env B 2 true  false`, `env D  false 4 true`,
		`label l < true  false`, `expose 80/tcp  false  true`}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := Configs(a, a); len(got) > 0 {
		t.Errorf("of itself: %v", got)
	}
}

func TestHistories(t *testing.T) {
	h := func(s string) (list []image.History) {
		for _, c := range s {
			list = append(list, image.History{CreatedBy: string(c)})
		}
		return list
	}
	for _, c := range [][4]string{{"abc", "abc", "", ""}, {"abc", "abxc", "", "x"}, {"abc", "a", "bc", ""}, {"", "ab", "", "ab"}, {"abc", "xbz", "abc", "xbz"}, {"aa", "aaa", "", "a"}} {
		was, is := Histories(h(c[0]), h(c[1]))
		if len(was) != len(c[2]) || len(is) != len(c[3]) {
			t.Errorf("%s and %s: %v, %v", c[0], c[1], was, is)
		}
	}
}
