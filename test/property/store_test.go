package property

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"nacre/internal/build"
	"nacre/internal/registry"
	"nacre/internal/registry/store"
	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

// property is what all cases share: a store with base images that is copied for each.
type property struct {
	t              *testing.T
	dir            string // on the disk, where layers are mounted as they are
	memory         string // a tmpfs, where they are unpacked into trees
	builds, failed atomic.Int64
}

// bases are the images that Dockerfiles begin with.
var bases = []struct{ name, text string }{
	{"base:1", `FROM busybox
COPY <<end /etc/passwd
root:x:0:0:root:/root:/bin/sh
app:x:1000:1001:app:/home/app:/bin/sh
end
COPY <<end /etc/group
root:x:0:
app:x:1001:
end
RUN mkdir -p -m 777 /out /w /tmp /opt/real && ln -s opt/real /lnk
ENV FROM_BASE=one
`},
	{"base:2", "FROM base:1\nRUN echo two > /out/two; ln -s /w /wlink; chown app /opt/real\nENV FROM_BASE=two\nUSER app\n"},
	{"base:on", "FROM base:1\nENV O=1\nONBUILD COPY . /ob/\nONBUILD RUN find /ob | sort > /out/ob\n"},
}

func newProperty(t *testing.T) *property {
	t.Helper()
	p := &property{t: t, dir: t.TempDir(), memory: t.TempDir()}
	if err := unix.Mount("tmpfs", p.memory, "tmpfs", 0, "size=2g"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(p.memory, 0); err != nil {
			t.Error(err)
		}
	})
	s, err := store.Open(context.Background(), filepath.Join(p.dir, "template"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tar, err := exec.Command("../../scripts/setup", "busybox").Output()
	if err != nil {
		t.Fatal(err)
	}
	stamp := "1000000000"
	for _, base := range append([]struct{ name, text string }{{"busybox", "FROM scratch\nADD busybox.tar /\nENV PATH=/usr/bin:/bin\n"}}, bases...) {
		ref, err := registry.ParseRef(base.name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = build.Builder{Store: s, Cache: s.Cache()}.Build(context.Background(), build.Options{
			Context: filepath.Dir(strings.TrimSpace(string(tar))), Data: []byte(base.text), Names: []registry.Ref{ref},
			BuildArgs: map[string]*string{"SOURCE_DATE_EPOCH": &stamp},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", p.dir+"/template", p.memory).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for dir, want := range map[string]rootfs.Form{p.dir: rootfs.Index, p.memory: rootfs.Trees} {
		// Remembered in the template, and so in all copies.
		if form, err := rootfs.Probe(filepath.Join(dir, "template")); err != nil || form != want {
			t.Logf("%s: %v, %v; layers in both forms are not compared here", dir, form, err)
		}
	}
	return p
}

// store is a new one with the base images.
func (p *property) store(dir string, inMemory bool) (*store.Store, func(), error) {
	from := p.dir
	if inMemory {
		from = p.memory
		tmp, err := os.MkdirTemp(p.memory, "store-")
		if err != nil {
			return nil, nil, err
		}
		dir = filepath.Join(tmp, "store")
	}
	if err := linkStore(filepath.Join(from, "template"), dir); err != nil {
		return nil, nil, err
	}
	s, err := store.Open(context.Background(), dir, store.Options{})
	if err != nil {
		return nil, nil, err
	}
	return s, func() {
		if err := s.Close(); err != nil {
			p.t.Error(err)
		}
		os.RemoveAll(dir)
	}, nil
}

// linkStore copies a store; what never changes in it is shared.
func linkStore(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(from, path)
		switch top, _, _ := strings.Cut(name, "/"); {
		case d.IsDir():
			return os.Mkdir(filepath.Join(to, name), 0o755)
		case top == "layers" || top == "blobs":
			return os.Link(path, filepath.Join(to, name))
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), data, 0o644)
	})
}

// tag gives base:cur to the image that the world says.
func (p *property) tag(s *store.Store, w *world) error {
	ctx := context.Background()
	for name, target := range w.tags {
		ref, err := registry.ParseRef(name)
		if err != nil {
			return err
		}
		img, err := s.Lookup(ctx, target)
		if err != nil {
			return err
		}
		if err := s.Tag(ctx, ref, img.Target); err != nil {
			return err
		}
	}
	return nil
}
