package within

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newTree is an empty tree, and its path outside. Beside it is a file that nobody in it may reach: "secret".
func newTree(t testing.TB) (*Tree, string) {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := errors.Join(os.Mkdir(root, 0o755), os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o644)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return Open(f), root
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// Every path ends where a process would come to whose root the tree is.
func TestPaths(t *testing.T) {
	t.Parallel()
	tree, root := newTree(t)
	must(t,
		os.MkdirAll(root+"/etc/deep", 0o755),
		os.WriteFile(root+"/etc/file", []byte("inside"), 0o644),
		os.WriteFile(root+"/secret", []byte("its own"), 0o644),
		os.Symlink("/etc/file", root+"/absolute"),
		os.Symlink("../../../../secret", root+"/etc/up"),
		os.Symlink("loop", root+"/loop"),
		os.Symlink("/etc", root+"/dir"),
		os.Symlink("/proc/self/root", root+"/magic"),
		unix.Mkfifo(root+"/pipe", 0o600),
	)
	for name, want := range map[string]string{
		"/etc/file": "inside", "etc/file": "inside", "/absolute": "inside", "/dir/file": "inside", "/etc/deep/../file": "inside",
		"/etc/up": "its own", "/../../secret": "its own", "/dir/../../secret": "its own",
	} {
		got, err := fs.ReadFile(tree, name)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]error{
		"/nope": fs.ErrNotExist, "/loop": unix.ELOOP, "/etc/file/x": unix.ENOTDIR, "/magic/etc/passwd": fs.ErrNotExist, "/pipe": errSpecial,
		"/" + strings.Repeat("x", 300): unix.ENAMETOOLONG,
	} {
		if f, err := tree.Open(name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
			if err == nil {
				f.Close()
			}
		}
	}
}

func TestStat(t *testing.T) {
	t.Parallel()
	tree, root := newTree(t)
	must(t, os.Mkdir(root+"/d", 0o750), os.Symlink("d", root+"/link"))
	link, err := tree.Lstat("/link")
	must(t, err)
	dir, err := tree.Stat("/link")
	must(t, err)
	top, err := tree.Stat("/..")
	must(t, err)
	if !link.IsLink() || link.IsDir() || link.Link != "d" || link.Name != "link" {
		t.Errorf("Lstat: %+v", link)
	}
	if !dir.IsDir() || dir.IsLink() || dir.Mode&0o777 != 0o750 {
		t.Errorf("Stat: %+v", dir)
	}
	if !top.IsDir() || top.Name != "/" {
		t.Errorf("the root: %+v", top)
	}
}

// archive is a tar of entries; a directory ends with a slash, a link has "name -> target", a hard link "name => target".
func archive(t testing.TB, entries ...string) *tar.Reader {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e, Typeflag: tar.TypeReg, Mode: 0o644, Uid: os.Getuid(), Gid: os.Getgid()}
		if name, target, ok := strings.Cut(e, " -> "); ok {
			h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeSymlink
		} else if name, target, ok := strings.Cut(e, " => "); ok {
			h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeLink
		} else if strings.HasSuffix(e, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		} else {
			h.Size = int64(len(e))
		}
		must(t, w.WriteHeader(h))
		if h.Size > 0 {
			_, err := io.WriteString(w, e)
			must(t, err)
		}
	}
	must(t, w.Close())
	return tar.NewReader(&buf)
}

// below lists all that is below a directory: names, of links with their targets.
func below(t testing.TB, dir string) (list []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		if e.Type() == fs.ModeSymlink {
			target, _ := os.Readlink(name)
			rel += " -> " + target
		}
		list = append(list, rel)
		return nil
	}))
	return list
}

// What a tar has lands below the directory, and nowhere else, whatever its names and links say.
func TestExtract(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		entries, want []string
		err           string
	}{
		"files":                       {[]string{"d/", "d/f", "l -> d"}, []string{"in", "in/d", "in/d/f", "in/l -> d"}, ""},
		"names that lead up":          {[]string{"../../f", "a/../../../g/"}, []string{"in", "in/f", "in/g"}, ""},
		"a link out of the tree":      {[]string{"l -> ../..", "l/f"}, []string{"f", "in", "in/l -> ../.."}, ""},
		"an absolute link":            {[]string{"l -> /", "l/f"}, []string{"f", "in", "in/l -> /"}, ""},
		"a file in a link's place":    {[]string{"l -> /secret", "l"}, []string{"in", "in/l"}, ""},
		"a hard link":                 {[]string{"f", "g => f"}, []string{"in", "in/f", "in/g"}, ""},
		"a hard link to what is out":  {[]string{"g => ../../secret"}, nil, "no such file"},
		"a directory in a file's way": {[]string{"d", "d/"}, nil, "d"},
		"a file in a directory's way": {[]string{"d/", "d"}, nil, "d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree, root := newTree(t)
			must(t, os.Mkdir(root+"/in", 0o755))
			_, err := tree.Extract(t.Context(), archive(t, c.entries...), "/in", ExtractOptions{Own: true})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
			} else if got := below(t, root); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
			if got, _ := os.ReadFile(filepath.Dir(root) + "/secret"); string(got) != "secret" {
				t.Error("a file beside the tree was changed")
			}
			if got := below(t, filepath.Dir(root)); slices.ContainsFunc(got, func(n string) bool { return n != "secret" && !strings.HasPrefix(n, "root") }) {
				t.Errorf("beside the tree: %q", got)
			}
		})
	}
}

func TestExtractCancelled(t *testing.T) {
	t.Parallel()
	tree, root := newTree(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tree.Extract(ctx, archive(t, "f"), "/", ExtractOptions{Own: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got := below(t, root); len(got) > 0 {
		t.Errorf("%q was written", got)
	}
}

// What Archive writes Extract makes again.
func TestArchive(t *testing.T) {
	t.Parallel()
	tree, root := newTree(t)
	must(t,
		os.MkdirAll(root+"/src/d", 0o700), os.WriteFile(root+"/src/d/f", []byte("content"), 0o640), os.Link(root+"/src/d/f", root+"/src/g"),
		os.Symlink("/nowhere", root+"/src/l"), unix.Mkfifo(root+"/src/p", 0o600), os.Mkdir(root+"/copy", 0o755), os.Symlink("src", root+"/to"),
	)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	must(t, tree.Archive(t.Context(), w, "/to", ".", ArchiveOptions{Follow: true}), w.Close())
	_, err := tree.Extract(t.Context(), tar.NewReader(&buf), "/copy", ExtractOptions{Own: true})
	must(t, err)
	if got, want := below(t, root+"/copy"), below(t, root+"/src"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	one, err := tree.Stat("/copy/d/f")
	must(t, err)
	two, err := tree.Stat("/copy/g")
	must(t, err)
	if one.Ino != two.Ino || one.Mode&0o777 != 0o640 {
		t.Errorf("%+v and %+v are to be one file", one, two)
	}
	if err := tree.Archive(t.Context(), w, "/nope", "x", ArchiveOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// FuzzExtract takes any tar: nothing is ever written beside the tree.
func FuzzExtract(f *testing.F) {
	f.Add("l -> ..\nl/f", false)
	f.Add("a/../../b\nb => a\nb -> /proc/self/root\nb/x/", true)
	f.Fuzz(func(t *testing.T, text string, raw bool) {
		tree, root := newTree(t)
		r := tar.NewReader(strings.NewReader(text))
		if !raw {
			if strings.ContainsRune(text, 0) || len(text) > 1<<10 {
				return
			}
			r = archive(t, strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })...)
		}
		tree.Extract(t.Context(), r, "/", ExtractOptions{Own: true})
		entries, err := os.ReadDir(filepath.Dir(root))
		must(t, err)
		if len(entries) != 2 {
			t.Errorf("beside the tree: %v", entries)
		}
		if got, _ := os.ReadFile(filepath.Dir(root) + "/secret"); string(got) != "secret" {
			t.Error("a file beside the tree was changed")
		}
	})
}
