package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ladderFiles are the Dockerfiles of testdata/ladder: what they have in common is that nothing is made in an ordinary way.
var ladderFiles = []struct {
	name string
	runs bool // it has a RUN
}{{"copies", false}, {"changes", true}, {"mounts", true}, {"users", true}, {"odd", true}, {"triggers", true}}

// rung is a place in which builds are made.
type rung struct {
	name, isolation string
	open            func(t testing.TB) (s *store, home string)
	inside          bool // the store is in the container's own root, and goes with it
}

func ladderRungs() []rung {
	ordinary := func(name string) func(testing.TB) (*store, string) {
		return func(t testing.TB) (*store, string) { return newUserStore(t, name) }
	}
	contained := func(t testing.TB) (*store, string) { return newContained(t) }
	return []rung{
		{"root", "root", func(t testing.TB) (*store, string) { return newStore(t), t.TempDir() }, false},
		{"root of trees", "root", func(t testing.TB) (*store, string) { return newTmpfs(t, "300m"), t.TempDir() }, false},
		{"an ordinary user with subordinate ids", "userns", ordinary("nacre-test"), false},
		{"an ordinary user without", "single", ordinary("nacre-one"), false},
		{"a container with a volume", "chroot", contained, false},
		{"a container", "chroot", contained, true},
		{"a container of podman's", "chroot", newPodman, true},
		{"a container that may not even chroot", "none", func(t testing.TB) (*store, string) { return newContained(t, noChroot...) }, false},
		{"an ordinary user without namespaces", "none", newConfined, false},
	}
}

// newPodman is newContained in a container that podman made, which gives less: no device can be made.
func newPodman(t testing.TB) (s *store, home string) {
	t.Helper()
	home, err := os.MkdirTemp("", "nacre-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	pod := podman(t)
	tool(t, with(pod, "import", "-q", baseTar(t, "busybox"), "busybox")...)
	bases := filepath.Dir(baseTar(t, "busybox"))
	wrap := with(pod, "run", "--rm", "-i", "--network", "host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
		"-e", "SOURCE_DATE_EPOCH=1000000000", "-v", home+":"+home, "-v", nacre+":"+nacre+":ro", "-v", bases+":"+bases+":ro", "busybox")
	return &store{root: filepath.Join(home, "root"), wrap: wrap}, home
}

// TestLadder: the same Dockerfiles give the same images, however programs are kept apart from the machine. Where none can be
// run, what needs none does, and a RUN says at its line why it cannot be executed.
func TestLadder(t *testing.T) {
	t.Parallel()
	want := map[string]string{}
	for _, r := range ladderRungs() {
		t.Run(r.name, func(t *testing.T) {
			s, home := r.open(t)
			s.env = append(s.env, "SOURCE_DATE_EPOCH=1000000000")
			if r.inside {
				s.root = "/store"
			}
			ctx := filepath.Join(home, "ctx")
			ladderContext(t, ctx)
			out, stderr := s.ladder(t, ctx, r.isolation)
			for _, f := range ladderFiles {
				if f.runs && r.isolation == "none" {
					if out[f.name] != "" || !strings.Contains(stderr, f.name+":") {
						t.Errorf("%s: it is %q, and no error is", f.name, out[f.name])
					}
					continue
				}
				if want[f.name] == "" {
					want[f.name] = out[f.name]
				}
				if got := out[f.name]; got != want[f.name] || got == "" {
					t.Errorf("%s: %q, wanted %q", f.name, got, want[f.name])
				}
			}
			if t.Failed() {
				t.Log(stderr)
			}
		})
	}
}

// ladder makes all builds in one go, so that the store may go with the place it is in: images, by the name of their Dockerfile.
func (s *store) ladder(t *testing.T, ctx, isolation string) (images map[string]string, stderr string) {
	t.Helper()
	script := fmt.Sprintf(`n='%s --root %s'; $n import --change '%s' --change 'CMD ["sh"]' %s busybox >/dev/null || exit
test "$($n info -f '{{.Isolation.Kind}}')" = %s || { $n info >&2; exit 9; }
`, nacre, s.root, path, baseTar(t, "busybox"), isolation)
	for _, f := range ladderFiles {
		script += fmt.Sprintf("i=$($n build -q -f %[1]s/%[2]s --secret id=s,src=%[1]s/secret %[1]s) || { echo '%[2]s: no image' >&2; i=; }; echo %[2]s $i\n", ctx, f.name)
	}
	script += "$n system check >&2 && test -z \"$(ls " + s.root + "/tmp)\" && echo whole\n"
	argv := append(append([]string{}, s.wrap...), "/bin/sh", "-c", script)
	cmd := exec.Command(argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errs, append(os.Environ(), s.env...)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, &out, &errs)
	}
	images = map[string]string{}
	for line := range strings.Lines(out.String()) {
		name, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		images[name] = id
	}
	if _, whole := images["whole"]; !whole {
		t.Errorf("the store is not as it should be:\n%s", &errs)
	}
	return images, errs.String()
}

// ladderContext is a context with all of the Dockerfiles.
func ladderContext(t *testing.T, dir string) {
	t.Helper()
	sameContext(t, dir, "FROM scratch\n", false)
	for _, f := range ladderFiles {
		text, err := os.ReadFile("testdata/ladder/" + f.name)
		if err != nil {
			t.Fatal(err)
		}
		writeAll(t, filepath.Join(dir, f.name), text)
	}
	writeAll(t, dir+"/secret", []byte("not for everybody"))
	writeAll(t, dir+"/odd.tar", oddTar(t))
}

func writeAll(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
}

// oddTar has what archives seldom have.
func oddTar(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, text string) {
		h.ModTime, h.Size = time.Unix(900_000_000, 0), int64(len(text))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(text))
	}
	long := strings.Repeat("long-", 40)
	add(tar.Header{Name: "in/", Typeflag: tar.TypeDir, Mode: 0o755, Uid: 11, Gid: 12}, "")
	add(tar.Header{Name: "in/setuid", Typeflag: tar.TypeReg, Mode: 0o6755, Uid: 33, Gid: 33}, "s")
	// cap_net_bind_service+ep, as setcap writes it.
	able := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	add(tar.Header{Name: "in/able", Typeflag: tar.TypeReg, Mode: 0o755, Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": able}}, "able")
	add(tar.Header{Name: "in/noted", Typeflag: tar.TypeReg, Mode: 0o600, Uid: 7, Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.xattr.user.note": "x"}}, "noted")
	add(tar.Header{Name: "in/one", Typeflag: tar.TypeReg, Mode: 0o644, Uid: 5}, "one")
	add(tar.Header{Name: "in/two", Typeflag: tar.TypeLink, Linkname: "in/one"}, "")
	add(tar.Header{Name: "in/three", Typeflag: tar.TypeLink, Linkname: "in/one"}, "")
	add(tar.Header{Name: "in/pipe", Typeflag: tar.TypeFifo, Mode: 0o620, Uid: 2, Gid: 3}, "")
	add(tar.Header{Name: "in/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, "")
	add(tar.Header{Name: "in/zilch", Typeflag: tar.TypeLink, Linkname: "in/null"}, "")
	add(tar.Header{Name: "in/link", Typeflag: tar.TypeSymlink, Linkname: "../in/one", Mode: 0o777, Uid: 21, Gid: 22}, "")
	add(tar.Header{Name: "in/outside", Typeflag: tar.TypeSymlink, Linkname: "/../../etc/passwd", Mode: 0o777}, "")
	add(tar.Header{Name: "in/dir/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 1, Gid: 1}, "")
	add(tar.Header{Name: "in/dir/sub/f", Typeflag: tar.TypeReg, Mode: 0o640, Gid: 8}, "f")
	add(tar.Header{Name: "in/long/" + long, Typeflag: tar.TypeReg, Mode: 0o644}, "long")
	add(tar.Header{Name: "in/ünï", Typeflag: tar.TypeReg, Mode: 0o644, Uid: 65534, Gid: 65534}, "ü")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
