package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newContained returns an empty store whose nacre runs as root of a container with docker's default rights, and a folder that is
// the same inside and outside. It is the only thing of this machine that is there, but for the program and the base images.
// What it runs there begins with prefix.
func newContained(t testing.TB, prefix ...string) (s *store, home string) {
	t.Helper()
	outer := shared.store(t, "debian")
	home, err := os.MkdirTemp("", "nacre-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	bases := filepath.Dir(baseTar(t, "debian"))
	wrap := []string{nacre, "--root", outer.root, "run", "--rm", "-i", "--network=host", "-e", "SOURCE_DATE_EPOCH=1000000000",
		"-v", home + ":" + home, "-v", nacre + ":" + nacre + ":ro", "-v", bases + ":" + bases + ":ro"}
	return &store{root: filepath.Join(home, "root"), wrap: append(append(wrap, "debian"), prefix...)}, home
}

// noChroot gives up one right more.
var noChroot = []string{"setpriv", "--bounding-set", "-sys_chroot"}

// inside runs a shell script where a contained store's nacre runs; it must succeed.
func (s *store) inside(t testing.TB, script string) string {
	t.Helper()
	return tool(t, append(append([]string{}, s.wrap...), "sh", "-c", script)...)
}

// TestContained: what the tests of isolation chroot run in has nothing that a default container has not.
func TestContained(t *testing.T) {
	t.Parallel()
	s, _ := newContained(t)
	got := s.inside(t, `
grep -E '^(CapPrm|CapEff|CapBnd|Seccomp):' /proc/self/status
for c in 'unshare -m' 'unshare -U' 'unshare -p' 'unshare -n' 'nsenter -t 1 -m' 'mount -t tmpfs x /mnt' 'mount --bind /etc /mnt' 'umount /proc' 'pivot_root / /mnt'; do
  $c true </dev/null >/dev/null 2>&1 && echo "$c: possible"
done
chroot / true && mknod /null c 1 3 && chown 5:6 /null && echo as usual`)
	got = strings.ReplaceAll(got, "\t", " ")
	want := "CapPrm: 00000000a80425fb\nCapEff: 00000000a80425fb\nCapBnd: 00000000a80425fb\nSeccomp: 2\nas usual"
	if got != want {
		t.Errorf("the container has\n%s, wanted\n%s", got, want)
	}
	if got := s.ok(t, "info", "-f", "{{.Isolation.Kind}}: {{(index .Isolation.Refused 0).Why}}"); !strings.HasPrefix(got, "chroot: root has no CAP_SYS_ADMIN") {
		t.Errorf("info: %s", got)
	}
	s.fails(t, 125, []string{`containers cannot be run here.*CAP_SYS_ADMIN`}, "run", "debian", "true")
	s.fails(t, 125, []string{`isolation root is not possible here.*CAP_SYS_ADMIN`}, "run", "--isolation=root", "debian", "true")

	none, _ := newContained(t, noChroot...)
	if got := none.ok(t, "info", "-f", "{{.Isolation.Kind}}: {{(index .Isolation.Refused 1).Why}}"); got != "none: root has no CAP_SYS_CHROOT" {
		t.Errorf("info: %s", got)
	}
}

// TestChrootStoreInside: a store in the container's own root, which is an overlay, as where there is no volume.
func TestChrootStoreInside(t *testing.T) {
	t.Parallel()
	s, home := newContained(t)
	dir := filepath.Join(home, "ctx")
	sameContext(t, dir, rich, false)
	got := s.inside(t, `set -e; n="`+nacre+` --root /store"
$n import --change '`+path+`' --change 'CMD ["sh"]' `+baseTar(t, "busybox")+` busybox >/dev/null
$n build -q `+dir+`; ls /store/tmp; $n system check >/dev/null`)
	plain := newStore(t)
	plain.env = append(plain.env, "SOURCE_DATE_EPOCH=1000000000")
	plain.importBase(t, "busybox", `CMD ["sh"]`)
	if want := plain.ok(t, "build", "-q", dir); got != want {
		t.Errorf("%s, wanted %s", got, want)
	}
}

// TestNoChroot: without any right what needs no program is built, and a RUN says why it cannot be executed, unless it is cached.
func TestNoChroot(t *testing.T) {
	t.Parallel()
	s, home := newContained(t, noChroot...)
	s.importBase(t, "busybox")
	dir := filepath.Join(home, "ctx")
	os.Mkdir(dir, 0o755)
	if err := os.WriteFile(dir+"/Dockerfile", []byte("FROM busybox\nCOPY Dockerfile /\nRUN echo 1 > /one\nCOPY Dockerfile /two\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.fails(t, 1, []string{`Dockerfile:3: RUN cannot be executed here: root: root has no CAP_SYS_ADMIN.*chroot: root has no CAP_SYS_CHROOT`, `docker's default capabilities`}, "build", dir)
	full := &store{root: s.root, env: []string{"SOURCE_DATE_EPOCH=1000000000"}}
	want := full.ok(t, "build", "-q", dir)
	if got := s.ok(t, "build", "-q", dir); got != want {
		t.Errorf("with a cached RUN: %s, wanted %s", got, want)
	}
	s.ok(t, "build", "-q", "--isolation=none", dir)
	full.fails(t, 1, []string{`isolation none was asked for`}, "build", "--no-cache", "--isolation=none", dir)
}

// TestChrootKilled: what a build leaves that was killed, another removes, and a cache that it was using begins anew.
func TestChrootKilled(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	dir := t.TempDir()
	mark := filepath.Join(s.root, "caches")
	text := "FROM busybox\nRUN --mount=type=cache,target=/c echo x >/c/f; echo begun >&2; (setsid sleep 54321 &) ; sleep 54322\n"
	os.WriteFile(dir+"/Dockerfile", []byte(text), 0o644)
	cmd := s.cmd("build", "--progress", "plain", "--isolation=chroot", dir)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf, seen := make([]byte, 4096), ""
	for !strings.Contains(seen, " begun\n") {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, seen)
		}
		seen += string(buf[:n])
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	os.WriteFile(dir+"/Dockerfile", []byte("FROM busybox\nRUN --mount=type=cache,target=/c test ! -e /c/f && echo y >/c/g\n"), 0o644)
	s.ok(t, "build", "-q", "--isolation=chroot", dir)
	s.ok(t, "build", "-q", "--no-cache", "--isolation=root", filepath.Dir(writeOne(t, "FROM busybox\nRUN --mount=type=cache,target=/c cat /c/g\n")))
	until(t, "all that sleeps to end", func() bool { return len(processes("sleep\x005432")) == 0 })
	if list, err := os.ReadDir(filepath.Join(s.root, "tmp")); err != nil || len(list) > 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
	if list, err := os.ReadDir(mark); err != nil || len(list) != 1 {
		t.Errorf("caches: %v, %v", list, err)
	}
	s.check(t)
}

// writeOne writes a Dockerfile into a directory of its own.
func writeOne(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "Dockerfile")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestChrootRefused: what takes namespaces says so, at its line.
func TestChrootRefused(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	for text, want := range map[string]string{
		"RUN --network=none true": `Dockerfile:2: RUN --network=none takes a network namespace`,
		"RUN --mount=type=cache,id=a,target=/a --mount=type=cache,id=a,target=/b true": `Dockerfile:2: mount of type cache: a is mounted at /a already`,
		"RUN exit 3":                `Dockerfile:2: process .* exit code: 3`,
		"RUN [\"/no/such\"]":        `Dockerfile:2: .*exit code: 127`,
		"RUN kill -9 $$":            `exit code: 137`,
		"USER nobody\nRUN mkdir /x": `Permission denied`,
	} {
		s.fails(t, 1, []string{want}, "build", "--progress", "plain", "--isolation=chroot", filepath.Dir(writeOne(t, "FROM busybox\n"+text+"\n")))
	}
	if list, _ := os.ReadDir(filepath.Join(s.root, "tmp")); len(list) > 0 {
		t.Errorf("left behind: %v", list)
	}
}
