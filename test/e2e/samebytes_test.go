package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rich has every instruction that makes files; plain those that need no sandbox.
const (
	plain = `# syntax=docker/dockerfile:1-labs
FROM scratch AS files
ARG V=1
WORKDIR /srv/app
COPY --chown=7:8 --chmod=750 tree ./tree
COPY --parents tree/*/deep /parents/
ADD some.tar /unpacked/
COPY <<"one" <<two /here/
not $V
one
$V
two
FROM scratch
COPY --link --from=files /srv /srv
COPY --from=files --exclude=*.txt / /all/
LABEL v=1
VOLUME /data
`
	rich = `# syntax=docker/dockerfile:1-labs
FROM busybox AS tools
RUN mkdir -p /opt/a /opt/b && for i in 3 1 2; do echo $i > /opt/a/f$i; done; ln /opt/a/f1 /opt/b/hard; ln -s ../a /opt/b/soft; chmod 4711 /opt/a/f2; chown -R 9:10 /opt/b
RUN umask; date > /tmp/now; rm /tmp/now; locale 2>/dev/null; echo $TZ-$LANG > /opt/env
FROM busybox
COPY --from=tools /opt /opt
RUN --mount=target=/ctx ls /ctx/tree > /listed
RUN rm -rf /opt/a && mkfifo /fifo && mv /opt/b /opt/c
COPY . /ctx
USER 5:6
WORKDIR /made/here
RUN <<end
cd /tmp && for i in 9 8 7; do touch f$i; done
end
`
)

// sameContext writes the files of a context in an order of its own.
func sameContext(t *testing.T, dir, dockerfile string, reverse bool) {
	t.Helper()
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	tw.WriteHeader(&tar.Header{Name: "in/tar", Typeflag: tar.TypeReg, Mode: 0o640, Uid: 3, Size: 3, ModTime: time.Unix(900_000_000, 0)})
	tw.Write([]byte("tar"))
	tw.Close()
	files := [][2]string{{"Dockerfile", dockerfile}, {"some.tar", archive.String()}, {"tree/notes.txt", "notes"}, {"tree/x/deep/f", "deep"}, {"tree/ünï côdé", "odd"}}
	for i := range 40 {
		files = append(files, [2]string{fmt.Sprintf("tree/many/%d", i*7919%1000), strings.Repeat("x", i*100)})
	}
	if reverse {
		slices.Reverse(files)
	}
	for _, f := range files {
		name := filepath.Join(dir, f[0])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(f[1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(dir+"/tree/notes.txt", dir+"/tree/x/hard"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../notes.txt", dir+"/tree/x/soft"); err != nil {
		t.Fatal(err)
	}
	old := time.Unix(950_000_000, 0) // before SOURCE_DATE_EPOCH, so that it is kept
	if err := os.Chtimes(dir+"/tree/notes.txt", old, old); err != nil {
		t.Fatal(err)
	}
	// What umask left is no part of the test: a context has the modes it has.
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if d.IsDir() {
			return os.Chmod(path, 0o755)
		}
		if d.Type().IsRegular() {
			return os.Chmod(path, 0o644)
		}
		return err
	})
	os.Chmod(dir, 0o755)
}

// made is what one build gave: the image, and its outputs, by digest.
type made struct{ image, squashed, compressed string }

// sameBuild builds with SOURCE_DATE_EPOCH.
func (s *store) sameBuild(t *testing.T, dir, scratch string) made {
	t.Helper()
	out := filepath.Join(scratch, "out.tar")
	s.ok(t, "build", "-q", "-t", "same", "-o", "type=image", "-o", "type=oci,compression=gzip,dest="+out, dir)
	m := made{image: s.inspect(t, "same", "{{.Id}}"), compressed: tool(t, "sha256sum", out)[:64]}
	s.ok(t, "build", "-q", "--squash", "-t", "squashed", dir)
	m.squashed = s.inspect(t, "squashed", "{{.Id}}")
	return m
}

// TestSameBytes: with SOURCE_DATE_EPOCH nothing about a machine gets into an image.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	epoch := "SOURCE_DATE_EPOCH=1000000000"
	shell := func(script string) func(*testing.T, *store) {
		return func(t *testing.T, s *store) { s.wrap = []string{"sh", "-c", script + `; exec "$@"`, "sh"} }
	}
	env := func(list ...string) func(*testing.T, *store) {
		return func(t *testing.T, s *store) { s.env = append(s.env, list...) }
	}
	variants := []struct {
		name                     string
		with                     func(*testing.T, *store)
		memory, overlay, reverse bool // the context's place, and the order of its files
	}{
		{name: "as it is"},
		{name: "one processor", with: env("GOMAXPROCS=1")},
		{name: "two processors", with: env("GOMAXPROCS=2")},
		{name: "seven processors", with: env("GOMAXPROCS=7")},
		{name: "one core", with: func(t *testing.T, s *store) { s.wrap = []string{"taskset", "-c", "0"} }},
		{name: "umask 0", with: shell("umask 0")},
		{name: "umask 077", with: shell("umask 077")},
		{name: "time zone", with: env("TZ=Asia/Kathmandu")},
		{name: "language", with: env("LANG=tr_TR.UTF-8", "LC_ALL=tr_TR.UTF-8")},
		{name: "host", with: func(t *testing.T, s *store) {
			s.wrap = []string{"unshare", "-u", "sh", "-c", `hostname elsewhere; exec "$@"`, "sh"}
		}},
		{name: "order of files", reverse: true},
		{name: "context in memory", memory: true, reverse: true},
		{name: "context on overlay", overlay: true},
		{name: "store in memory, of trees", with: func(t *testing.T, s *store) { s.root = newTmpfs(t, "200m").root }},
	}
	for _, text := range []struct{ name, dockerfile string }{{"plain", plain}, {"rich", rich}} {
		t.Run(text.name, func(t *testing.T) {
			var want made
			for _, v := range variants {
				s := newStore(t)
				s.env = append(s.env, epoch) // for the base image, too
				if v.with != nil {
					v.with(t, s)
				}
				s.importBase(t, "busybox", `CMD ["sh"]`)
				dir := sameDir(t, text.dockerfile, v.memory, v.overlay, v.reverse)
				got := s.sameBuild(t, dir, t.TempDir())
				if want == (made{}) {
					want = got
				}
				if got != want {
					t.Errorf("%s: %+v, wanted %+v", v.name, got, want)
				}
			}
			for _, u := range ordinaryUsers {
				s, home := newUserStore(t, u.name)
				s.env = append(s.env, epoch)
				s.importBase(t, "busybox", `CMD ["sh"]`)
				dir := filepath.Join(home, "ctx")
				sameContext(t, dir, text.dockerfile, false)
				if got := s.sameBuild(t, dir, home); got != want {
					t.Errorf("%s: %+v, wanted %+v", u.name, got, want)
				}
				s.check(t)
			}
			if text.name == "plain" {
				s, home := newConfined(t)
				s.env = append(s.env, epoch)
				dir := filepath.Join(home, "ctx")
				sameContext(t, dir, text.dockerfile, false)
				if got := s.sameBuild(t, dir, home); got != want {
					t.Errorf("an ordinary user: %+v, wanted %+v", got, want)
				}
			}
		})
	}
}

// sameDir makes a context where it is asked for.
func sameDir(t *testing.T, dockerfile string, memory, overlay, reverse bool) string {
	t.Helper()
	dir := t.TempDir()
	mount := func(to, kind, options string) {
		if err := unix.Mount("none", to, kind, 0, options); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(to, 0); err != nil {
				t.Error(err)
			}
		})
	}
	switch {
	case memory:
		mount(dir, "tmpfs", "size=20m")
		sameContext(t, dir, dockerfile, reverse)
	case overlay:
		for _, d := range []string{"lower", "upper", "work", "merged"} {
			os.Mkdir(filepath.Join(dir, d), 0o755)
		}
		sameContext(t, dir+"/lower", dockerfile, reverse)
		mount(dir+"/merged", "overlay", fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", dir, dir, dir))
		dir += "/merged"
	default:
		sameContext(t, dir, dockerfile, reverse)
	}
	return dir
}

// TestSameBytesTogether: builds beside each other in one store make what each makes alone.
func TestSameBytesTogether(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.env = append(s.env, "SOURCE_DATE_EPOCH=1000000000")
	s.importBase(t, "busybox")
	var dirs []string
	for range 3 {
		dirs = append(dirs, sameDir(t, rich, false, false, false))
	}
	var cmds []*exec.Cmd
	var out [3]bytes.Buffer
	for i, dir := range dirs {
		cmd := s.cmd("build", "-q", "--no-cache", dir)
		cmd.Stdout, cmd.Stderr = &out[i], os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	alone := newStore(t)
	alone.env = s.env
	alone.importBase(t, "busybox")
	want := alone.ok(t, "build", "-q", dirs[0]) + "\n"
	for i := range out {
		if got := out[i].String(); got != want {
			t.Errorf("build %d: %q, wanted %q", i, got, want)
		}
	}
}
