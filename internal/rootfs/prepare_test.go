package rootfs

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

func TestPrepare(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form, s *source) {
		a := s.add(file("x", "from a"), file("y", "y"), dir("d"))
		b := s.add(file("x", "from b"), whiteout("y"), mode(owned(dir("d"), 3, 4), 0o700), file("d/f", ""))
		c := s.add(whiteout("x"), file("y", "y again"))
		empty := s.add()
		hides := opaque(".")
		hides.Mode = unix.S_IFDIR | 0o711
		all := s.add(hides, file("only", ""))
		implies := s.add(file("d/g", ""))
		for _, c := range []struct {
			name   string
			chain  []digest.Digest
			lowers int // of a writable root
		}{
			{"none", nil, 0},
			{"empty layers", []digest.Digest{empty, a, empty, empty}, 1},
			{"a layer twice", []digest.Digest{a, b, a}, 2},
			{"a layer twice at once", []digest.Digest{a, a}, 1},
			{"layers many times", []digest.Digest{c, a, b, c, a, c, b}, 3},
			{"opaque root", []digest.Digest{a, b, all, c}, 2},
			{"implied directory", []digest.Digest{b, implies}, 3},
			{"implied directory, described again", []digest.Digest{b, implies, a}, 3},
		} {
			t.Run(c.name, func(t *testing.T) {
				want, err := snapshotFS(s.merged(c.chain...))
				if err != nil {
					t.Fatal(err)
				}
				for _, readonly := range []bool{true, false} {
					m := s.prepare(form, readonly, c.chain...)
					lowers := c.lowers
					if readonly && c.name == "opaque root" {
						lowers++ // for the mode of the root
					}
					if n := len(m.Lower); n != lowers {
						t.Errorf("readonly=%v: %d lowers, want %d", readonly, n, lowers)
					}
					if (m.Upper == "") != readonly {
						t.Errorf("readonly=%v: upper %q", readonly, m.Upper)
					}
					mounted(t, m, func(r string) error {
						got, err := snapshotDir(r)
						if err == nil {
							same(t, "mounted", got, want)
						}
						return err
					})
				}
			})
		}
	})
}

func TestPrepareErrors(t *testing.T) {
	s := newSource(t, false)
	a := s.add(file("a", ""))
	for name, c := range map[string]struct {
		form    Form
		chain   []digest.Digest
		scratch string
		want    error
	}{
		"absent layer":      {Index, []digest.Digest{a, digest.FromString("absent")}, s.scratch(), os.ErrNotExist},
		"no scratch":        {Trees, []digest.Digest{a}, filepath.Join(s.dir, "absent"), os.ErrNotExist},
		"scratch is a file": {Index, []digest.Digest{a}, filepath.Join(s.LayerDir(a), dataName), unix.ENOTDIR},
	} {
		if _, err := Prepare(context.Background(), s, c.form, c.chain, c.scratch, false); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
}

// TestMountJSON: a mount goes to another process as text.
func TestMountJSON(t *testing.T) {
	want := Mount{Lower: []Lower{{Index: "/i", Data: "/d"}, {Dir: "/t"}}, Upper: "/u", Work: "/w", UserXattr: true}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Mount
	if err := json.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestAttachErrors(t *testing.T) {
	s := newSource(t, false)
	good := s.prepare(Index, false, s.add(file("a", "")))
	damaged := filepath.Join(s.scratch(), "damaged")
	if err := os.WriteFile(damaged, make([]byte, 8192), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		m    Mount
		want string
	}{
		{"absent index", Mount{Lower: []Lower{{Index: "/absent/layer.erofs"}}}, "/absent/layer.erofs"},
		{"absent data", Mount{Lower: []Lower{{Index: good.Lower[0].Index, Data: "/absent/layer.tar"}}}, "no such file"},
		{"damaged index", Mount{Lower: []Lower{{Index: damaged}}}, "erofs: create"},
		{"absent directory", Mount{Lower: []Lower{{Dir: "/absent/dir"}}}, "/absent/dir"},
		{"absent upper", Mount{Lower: good.Lower, Upper: "/absent/upper", Work: good.Work}, "no such file"},
		{"no work", Mount{Lower: good.Lower, Upper: good.Upper}, "go together"},
		{"nothing named", Mount{Lower: []Lower{{}}}, "either an index or a directory"},
		{"work on another file system", Mount{Lower: good.Lower, Upper: good.Upper, Work: "/dev/shm"}, "overlay: create"},
	} {
		root := t.TempDir()
		err := apart(func() error {
			before := mountinfo(t)
			err := c.m.Attach(root)
			if now := mountinfo(t); len(now) != len(before) {
				t.Errorf("%s: left mounted: %q", c.name, now[len(before):])
			}
			return err
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

// TestAttachLongPaths: what fsconfig(2) takes as a string is short.
func TestAttachLongPaths(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form, s *source) {
		s.dir = filepath.Join(s.dir, strings.Repeat("long/", 60), "with,comma:colon\\ and space")
		if err := os.MkdirAll(s.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		ids := []digest.Digest{s.add(file("a", "a")), s.add(file("b", "b"))}
		for name, way := range map[string]func(Mount, string) error{
			"aside": putAside, "placed": Mount.attachPlaced, "legacy": Mount.attachLegacy,
		} {
			attachBy(t, way, s.prepare(form, false, ids...), func(r string) error {
				data, err := os.ReadFile(r + "/a")
				if string(data) != "a" {
					t.Errorf("%s: read %q", name, data)
				}
				return errors.Join(err, os.WriteFile(r+"/c", nil, 0o644))
			})
		}
	})
}

// TestAttachAgain: what was written is there when a root is mounted once more.
func TestAttachAgain(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form, s *source) {
		m := s.prepare(form, false, s.add(file("a", "a")))
		for i := range 3 {
			mounted(t, m, func(r string) error {
				if _, err := os.Stat(filepath.Join(r, "written")); i > 0 && err != nil {
					t.Error(err)
				}
				return os.WriteFile(filepath.Join(r, "written"), nil, 0o644)
			})
		}
	})
}

func TestProbe(t *testing.T) {
	dir := t.TempDir()
	check := func(what, dir string, want Form) {
		t.Helper()
		before := mountinfo(t)
		got, err := Probe(dir)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", what, got, err, want)
		}
		if after := mountinfo(t); len(after) != len(before) {
			t.Errorf("%s: left mounted: %q", what, after)
		}
		list, err := os.ReadDir(dir)
		if err != nil || len(list) != 1 || list[0].Name() != probeName {
			t.Errorf("%s: left behind %v, %v", what, list, err)
		}
	}
	check("first", dir, Index)
	known := filepath.Join(dir, probeName)
	data, err := os.ReadFile(known)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		text string
		want Form
	}{
		"remembered":     {strings.Replace(string(data), " index\n", " trees\n", 1), Trees},
		"another kernel": {strings.Replace("1.2.3-"+string(data), " index\n", " trees\n", 1), Index},
		"damaged":        {"\x00\xff\n\n \n" + strings.TrimSuffix(string(data), "dex\n"), Index},
	} {
		if err := os.WriteFile(known, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		check(what, dir, c.want)
	}

	// EROFS is not mounted from files of a tmpfs.
	tmpfs := t.TempDir()
	if err := unix.Mount("none", tmpfs, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(tmpfs, unix.MNT_DETACH)
	check("tmpfs", tmpfs, Trees)
	check("tmpfs, remembered", tmpfs, Trees)

	if _, err := Probe(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent directory: %v", err)
	}
}

var _ Source = (*source)(nil)
