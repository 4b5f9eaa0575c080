package build

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nacre/internal/copier"
	"nacre/internal/dockerfile"
	"nacre/internal/event"
	"nacre/internal/registry"
	"nacre/internal/registry/store"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"
	"nacre/internal/source/remote"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	os.Exit(m.Run())
}

// bench is a store and a context that builds are made in.
type bench struct {
	t     testing.TB
	store *store.Store
	dir   string
	opts  Options
	http  remote.Client
}

func newBench(t testing.TB, files map[string]string) *bench {
	t.Helper()
	s, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "store"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{t: t, store: s, dir: t.TempDir()}
	b.write(files)
	return b
}

func (b *bench) write(files map[string]string) {
	b.t.Helper()
	for name, data := range files {
		path := filepath.Join(b.dir, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

// outcome is a build: what came out, and which steps were executed and which hit.
type outcome struct {
	Result
	ran, hit []string
	notes    map[string]string
	log      string
}

func (b *bench) try(dockerfile string) (outcome, error) {
	b.t.Helper()
	b.write(map[string]string{"Dockerfile": dockerfile})
	var mu sync.Mutex
	var out outcome
	out.notes = map[string]string{}
	names := map[int]string{}
	o := b.opts
	o.Context = b.dir
	r, err := Builder{Store: b.store, Cache: b.store.Cache(), HTTP: b.http, Sink: func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		switch e := e.(type) {
		case event.Started:
			names[e.Step.ID] = e.Step.Name
		case event.Log:
			out.log += string(e.Data)
		case event.Done:
			// The name without its place: `[2/3] COPY a b` is `COPY a b`.
			name := names[e.ID]
			if _, rest, ok := strings.Cut(name, "] "); ok {
				name = rest
			}
			if e.ID < stepGraph || strings.HasPrefix(name, "FROM ") {
				return
			}
			out.notes[name] = e.Note + e.Why
			if e.Cached {
				out.hit = append(out.hit, name)
			} else {
				out.ran = append(out.ran, name)
			}
		}
	}}.Build(context.Background(), o)
	out.Result = r
	slices.Sort(out.ran)
	slices.Sort(out.hit)
	return out, err
}

func (b *bench) build(dockerfile string) outcome {
	b.t.Helper()
	out, err := b.try(dockerfile)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (o outcome) expectRan(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(o.ran, want) {
		t.Errorf("executed %q, want %q", o.ran, want)
	}
}

// root is the built image's file system.
func (b *bench) root(o outcome) *rootfs.FS {
	b.t.Helper()
	m, _, err := b.store.Manifest(context.Background(), o.Image, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	cfg, _, err := b.store.Config(context.Background(), m.Config)
	if err != nil {
		b.t.Fatal(err)
	}
	f, err := Root(context.Background(), b.store, cfg.RootFS.DiffIDs)
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

func (b *bench) read(o outcome, name string) string {
	b.t.Helper()
	data, err := fs.ReadFile(b.root(o), name)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(data)
}

func TestCopyAndCache(t *testing.T) {
	b := newBench(t, map[string]string{"a": "1", "dir/b": "2", "c": "3"})
	const df = "FROM scratch\nCOPY a /a\nCOPY dir /d\nLABEL x=y\n"
	first := b.build(df)
	first.expectRan(t, "COPY a /a", "COPY dir /d")
	if got := b.read(first, "d/b"); got != "2" {
		t.Errorf("d/b is %q", got)
	}
	second := b.build(df)
	second.expectRan(t)
	if second.Config != first.Config || second.Manifest.Digest != first.Manifest.Digest {
		t.Error("a fully cached build gave another image")
	}
	b.write(map[string]string{"c": "unrelated"})
	b.build(df).expectRan(t)
	b.write(map[string]string{"dir/b": "22"})
	third := b.build(df)
	third.expectRan(t, "COPY dir /d")
	if got := b.read(third, "d/b"); got != "22" {
		t.Errorf("d/b is %q", got)
	}
}

// A step's second key is what its inputs came out as: what is the same again hits again.
func TestEarlyCutoff(t *testing.T) {
	b := newBench(t, map[string]string{"src": "code // comment", "other": "o"})
	const df = "FROM scratch AS build\nCOPY src /src\nCOPY other /out\nFROM scratch\nCOPY --from=build /out /final\n"
	b.build(df).expectRan(t, "COPY src /src", "COPY other /out", "COPY --from=build /out /final")
	b.write(map[string]string{"src": "code // another"})
	out := b.build(df)
	out.expectRan(t, "COPY src /src")
	if out.notes["COPY --from=build /out /final"] != "same content" {
		t.Errorf("notes %q", out.notes)
	}
}

func TestSameStepsRunOnce(t *testing.T) {
	b := newBench(t, map[string]string{"f": "x"})
	out := b.build("FROM scratch AS a\nCOPY f /f\nFROM scratch AS b\nCOPY f /f\nFROM scratch\nCOPY --from=a /f /a\nCOPY --from=b /f /b\n")
	if got := b.read(out, "a") + b.read(out, "b"); got != "xx" {
		t.Errorf("got %q", got)
	}
}

func TestUnneededStages(t *testing.T) {
	b := newBench(t, map[string]string{"f": "x"})
	b.build("FROM scratch AS unused\nCOPY missing /\nFROM scratch\nCOPY f /f\n").expectRan(t, "COPY f /f")
	b.opts.Target = "first"
	b.build("FROM scratch AS first\nCOPY f /g\nFROM scratch\nCOPY missing /\n").expectRan(t, "COPY f /g")
}

// TestLinkedRoot: a step after COPY --link sees what is below it, though COPY --link does not.
func TestLinkedRoot(t *testing.T) {
	b := newBench(t, map[string]string{"a": "1", "b": "b"})
	const text = "FROM scratch AS s\nCOPY a /a\nCOPY --link b /b\nFROM scratch\nCOPY --from=s /a /copied\n"
	b.build(text)
	b.write(map[string]string{"a": "2"})
	out := b.build(text)
	out.expectRan(t, "COPY a /a", "COPY --from=s /a /copied")
	if got := b.read(out, "copied"); got != "2" {
		t.Errorf("copied is %q", got)
	}
}

func TestNoCache(t *testing.T) {
	b := newBench(t, map[string]string{"f": "x"})
	b.build("FROM scratch\nCOPY f /f\n")
	b.opts.NoCache = true
	b.build("FROM scratch\nCOPY f /f\n").expectRan(t, "COPY f /f")
}

func TestEpoch(t *testing.T) {
	stamp := "1000000000"
	var ids []string
	for range 2 {
		b := newBench(t, map[string]string{"f": "x", "d/e": "y"})
		b.opts.BuildArgs = map[string]*string{"SOURCE_DATE_EPOCH": &stamp}
		os.Chtimes(filepath.Join(b.dir, "f"), time.Now(), time.Now())
		out := b.build("FROM scratch\nCOPY f /app/f\nCOPY d /app/d\nWORKDIR /made/up\n")
		ids = append(ids, out.Manifest.Digest.String())
		info, err := b.root(out).Lstat("app/f")
		if err != nil || info.ModTime().Unix() != 1000000000 {
			t.Errorf("time %v, %v", info.ModTime(), err)
		}
	}
	if ids[0] != ids[1] {
		t.Error("two builds with SOURCE_DATE_EPOCH differ")
	}
}

func TestIgnoreFile(t *testing.T) {
	b := newBench(t, map[string]string{"keep": "1", "drop": "2", ".dockerignore": "drop\n"})
	out := b.build("FROM scratch\nCOPY . /\n")
	if _, err := b.root(out).Lstat("drop"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an ignored file is in the image (%v)", err)
	}
	b.read(out, "keep")
	_, err := b.try("FROM scratch\nCOPY drop /\n")
	var src *SourceError
	if !errors.As(err, &src) || !strings.Contains(src.Hint, ".dockerignore") {
		t.Errorf("error %v", err)
	}
	b.write(map[string]string{"Dockerfile.dockerignore": "keep\n"})
	out = b.build("FROM scratch\nCOPY . /\n")
	b.read(out, "drop")
}

func TestAddArchive(t *testing.T) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700},
		{Name: "./d/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 5, Gid: 6},
		{Name: "./d/f", Typeflag: tar.TypeReg, Mode: 0o600, Size: 4, Uid: 5, Gid: 6},
		{Name: "./d/l", Typeflag: tar.TypeLink, Linkname: "./d/f"},
	} {
		tw.WriteHeader(&h)
		if h.Size > 0 {
			tw.Write([]byte("data"))
		}
	}
	tw.Close()
	b := newBench(t, map[string]string{"x.tar": buf.String()})
	out := b.build("FROM scratch\nADD x.tar /opt/\nCOPY x.tar /x.tar\nADD --unpack=false x.tar /raw/\n")
	if got := b.read(out, "opt/d/l"); got != "data" {
		t.Errorf("opt/d/l is %q", got)
	}
	info, err := b.root(out).Lstat("opt/d")
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("opt/d: %v, %v", info, err)
	}
	if b.read(out, "x.tar") != buf.String() || b.read(out, "raw/x.tar") != buf.String() {
		t.Error("COPY or --unpack=false changed the archive")
	}
}

func TestErrors(t *testing.T) {
	b := newBench(t, map[string]string{"f": "x", "d/e": "y", "evil.tar": evilTar()})
	tests := []struct{ name, df, want string }{
		{"absent source", "FROM scratch\nCOPY nope /\n", `Dockerfile:2: "/nope": not found in the build context`},
		{"outside", "FROM scratch\nCOPY ../etc/passwd /\n", "Dockerfile:2: "},
		{"absent in stage", "FROM scratch AS a\nCOPY f /\nFROM scratch\nCOPY --from=a /nope /\n", `Dockerfile:4: "/nope": not found in a`},
		{"unknown base", "FROM nosuch:1\n", "nosuch:1"},
		{"file over directory", "FROM scratch\nCOPY d /x/f\nCOPY f /x\n", "Dockerfile:3: cannot replace directory /x/f with a file"},
		{"directory over file", "FROM scratch\nCOPY f /\nCOPY d /f\n", "Dockerfile:3: cannot copy a directory to /f"},
		{"hostile archive", "FROM scratch\nADD evil.tar /\n", "Dockerfile:2: evil.tar: "},
		{"bad chown", "FROM scratch\nCOPY --chown=nobody f /\n", "Dockerfile:2: --chown=nobody: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := b.try(tt.df)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	if _, err := b.try("FROM scratch\nCOPY nope /\n"); !errors.Is(err, copier.ErrAbsent) {
		t.Errorf("%v is no ErrAbsent", err)
	}
	var df *dockerfile.Error
	if _, err := b.try("FROM scratch\nCOPYY a b\n"); !errors.As(err, &df) || df.Line != 2 {
		t.Errorf("error %v", err)
	}
}

func evilTar() string {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	tw.WriteHeader(&tar.Header{Name: "../../etc/evil", Typeflag: tar.TypeReg, Size: 1, Mode: 0o644})
	tw.Write([]byte("x"))
	tw.Close()
	return buf.String()
}

func TestNames(t *testing.T) {
	b := newBench(t, map[string]string{"f": "x"})
	ref, _ := registry.ParseRef("web:1")
	b.opts.Names = []registry.Ref{ref}
	out := b.build("FROM scratch\nCOPY f /f\n")
	img, err := b.store.Lookup(context.Background(), "web:1")
	if err != nil || img.ID != out.Config {
		t.Errorf("lookup: %v, %v", img.ID, err)
	}
	b.build("FROM web:1\nCOPY f /g\n").expectRan(t, "COPY f /g")
}

// docs/architecture.md follows this image; its digests there are the real ones.
func TestArchitectureExample(t *testing.T) {
	doc, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, map[string]string{"greeting": "hello\n"})
	stamp := "1700000000"
	b.opts.BuildArgs = map[string]*string{"SOURCE_DATE_EPOCH": &stamp}
	os.Chtimes(filepath.Join(b.dir, "greeting"), time.Unix(1700000000, 0), time.Unix(1700000000, 0))
	out := b.build("FROM scratch\nCOPY greeting /srv/\nLABEL lang=en\n")
	m, _, err := b.store.Manifest(context.Background(), out.Image, nil)
	if err != nil {
		t.Fatal(err)
	}
	info, err := b.store.LayerInfo(context.Background(), m.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	for what, digest := range map[string]string{
		"config": out.Config.String(), "manifest": out.Manifest.Digest.String(),
		"layer": m.Layers[0].Digest.String(), "content": info.Content.String(),
	} {
		if !strings.Contains(string(doc), digest) {
			t.Errorf("docs/architecture.md does not have the %s %s", what, digest)
		}
	}
}
