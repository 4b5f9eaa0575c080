package rootfs

import (
	"context"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// source is a Source over a directory of the test's.
type source struct {
	t         testing.TB
	dir       string
	userXattr bool

	mu     sync.Mutex
	layers map[digest.Digest]*layer.Layer
}

func newSource(t testing.TB, userXattr bool) *source {
	return &source{t: t, dir: t.TempDir(), userXattr: userXattr, layers: map[digest.Digest]*layer.Layer{}}
}

func (s *source) LayerDir(id digest.Digest) string {
	return filepath.Join(s.dir, "layers", id.Encoded())
}

func (s *source) Layer(_ context.Context, id digest.Digest) (*layer.Layer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.layers[id]; l != nil {
		return l, nil
	}
	l, err := layer.Open(s.LayerDir(id))
	if err == nil {
		s.layers[id] = l
		s.t.Cleanup(func() { l.Close() })
	}
	return l, err
}

func (s *source) Tree(ctx context.Context, id digest.Digest) (string, error) {
	dir := filepath.Join(s.dir, "trees", id.Encoded())
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	l, err := s.Layer(ctx, id)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return "", err
	}
	return dir, Unpack(ctx, l, dir, UnpackOptions{UserXattr: s.userXattr})
}

// write makes a layer.
func (s *source) write(files iter.Seq2[layer.File, error]) (digest.Digest, error) {
	tmp, err := os.MkdirTemp(s.dir, "new-")
	if err != nil {
		return "", err
	}
	info, err := layer.Write(context.Background(), tmp, files)
	if err != nil {
		return "", err
	}
	dir := s.LayerDir(info.DiffID)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return info.DiffID, os.RemoveAll(tmp)
	}
	return info.DiffID, os.Rename(tmp, dir)
}

// add makes a layer of files, in whatever order.
func (s *source) add(files ...layer.File) digest.Digest {
	s.t.Helper()
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b layer.File) int { return compareNames(a.Name, b.Name) })
	id, err := s.write(func(yield func(layer.File, error) bool) {
		for _, f := range files {
			if !yield(f, nil) {
				return
			}
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// merged is the FS of a chain.
func (s *source) merged(ids ...digest.Digest) *FS {
	s.t.Helper()
	var list []*layer.Layer
	for _, id := range ids {
		l, err := s.Layer(context.Background(), id)
		if err != nil {
			s.t.Fatal(err)
		}
		list = append(list, l)
	}
	return NewFS(list...)
}

// scratch is a new directory beside the layers.
func (s *source) scratch() string {
	s.t.Helper()
	dir, err := os.MkdirTemp(s.dir, "scratch-")
	if err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// prepare is Prepare with the source's own idea of userxattr, which as root would be false.
func (s *source) prepare(form Form, readonly bool, ids ...digest.Digest) Mount {
	s.t.Helper()
	m, err := Prepare(context.Background(), s, form, ids, s.scratch(), readonly)
	if err != nil {
		s.t.Fatal(err)
	}
	m.UserXattr = form == Trees && s.userXattr
	return m
}

// mounted runs do with m mounted, in a mount namespace of its own.
func mounted(t testing.TB, m Mount, do func(root string) error) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	err := apart(func() error {
		if err := m.Attach(root); err != nil {
			return err
		}
		defer unix.Unmount(root, unix.MNT_DETACH)
		return do(root)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Files for layers.

var then = time.Unix(1_600_000_000, 0)

func made(name string, mode uint32) layer.File {
	return layer.File{Entry: layer.Entry{Name: name, Mode: mode, ModTime: then}}
}

func dir(name string) layer.File { return made(name, unix.S_IFDIR|0o755) }

func file(name, content string) layer.File {
	f := made(name, unix.S_IFREG|0o644)
	f.Size = int64(len(content))
	f.Open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
	return f
}

func symlink(name, target string) layer.File {
	f := made(name, unix.S_IFLNK|0o777)
	f.Link = target
	return f
}

func hard(name, first string) layer.File {
	f := made(name, unix.S_IFREG|0o644)
	f.Hard, f.Link = true, first
	return f
}

func device(name string, kind uint32, major, minor uint32) layer.File {
	f := made(name, kind|0o660)
	f.Major, f.Minor = major, minor
	return f
}

func whiteout(name string) layer.File {
	return layer.File{Entry: layer.Entry{Name: name, Whiteout: true}}
}

func opaque(name string) layer.File {
	f := dir(name)
	f.Opaque = true
	return f
}

func mode(f layer.File, perm uint32) layer.File {
	f.Mode = f.Mode&unix.S_IFMT | perm
	return f
}

func owned(f layer.File, uid, gid int) layer.File {
	f.UID, f.GID = uid, gid
	return f
}

func at(f layer.File, sec int64) layer.File {
	f.ModTime = time.Unix(sec, 0)
	return f
}

func attr(f layer.File, name, value string) layer.File {
	x := map[string]string{name: value}
	for k, v := range f.Xattrs {
		x[k] = v
	}
	f.Xattrs = x
	return f
}

// parents adds the directories above files that are not among them.
func parents(files ...layer.File) []layer.File {
	have := map[string]bool{".": true}
	for _, f := range files {
		have[f.Name] = true
	}
	for _, f := range files {
		for d := path.Dir(f.Name); !have[d]; d = path.Dir(d) {
			have[d] = true
			files = append(files, dir(d))
		}
	}
	return files
}
