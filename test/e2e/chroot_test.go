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
	outer := newStore(t)
	outer.importBase(t, "debian")
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

// livedDockerfile does to files what installations do, and more.
const livedDockerfile = `FROM debian AS made-before
RUN echo before >/etc/before
FROM debian AS made
COPY tools /usr/local/tools
ENV LD_LIBRARY_PATH=/usr/local/tools
RUN mkdir -p /d/sub /l /x && echo one >/d/one && echo two >/d/sub/two && ln /d/one /l/hard && touch -d @900000000 /d/one && echo f >/x/file && mkdir /x/dir && echo i >/x/dir/in \
 && echo aaaa >/same && touch -d @900000001 /same && cp /bin/true /cap && chmod 6755 /cap && mkdir /empty && echo g >/gone
RUN cat /proc/version 2>/dev/null; /usr/local/tools/setcap cap_net_raw+ep /cap && cp /cap /cap2 && /usr/local/tools/setfattr -n user.note -v x /d && /usr/local/tools/setfattr -n user.note -v y /d/sub/two
RUN rm -r /x/dir && echo now a file >/x/dir && rm /x/file && mkdir /x/file && echo in >/x/file/in
RUN rm -rf /d && mkdir -p /d/sub && echo anew >/d/sub/three && rmdir /empty && mkdir /empty && rm /gone
RUN echo bbbb >/same && touch -d @900000001 /same
RUN echo more >>/l/hard && ln /l/hard /l/again && mv /l /m && ln -s /m/hard /link && chown -h 7:8 /link
RUN mkfifo /m/pipe && chmod 600 /m/pipe && perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, pack_sockaddr_un("/m/sock")) or die $!' && truncate -s 50M /sparse && echo end >>/sparse
RUN mkdir /many && cd /many && seq 20000 | split -l 1 -a 4 - f
RUN rm /many/faa* && echo changed >/many/fbaa && test ! -e /m/sock && chmod 700 /many
RUN --mount=type=cache,target=/var/cache/thing,uid=3 --mount=type=cache,target=/new/cache echo c >/var/cache/thing/f && echo n >/new/cache/f
RUN --mount=type=cache,target=/var/cache/thing,uid=3 --mount=type=bind,target=/ctx --mount=type=bind,from=made-before,source=/etc,target=/other,rw --mount=type=tmpfs,target=/srv \
 cat /var/cache/thing/f && cp /ctx/Dockerfile /copied && { rm -r /var/cache/thing 2>/dev/null || true; } && echo t >/srv/t && touch /other/lost && test -s /other/passwd && stat -c %u:%a /ctx/Dockerfile
RUN --mount=type=cache,target=/var/cache/thing,uid=3 --mount=type=secret,id=word,target=/run/word,mode=0440 --mount=type=secret,id=word,env=WORD \
 test ! -e /var/cache/thing/f && test "$(cat /run/word)" = hush && test "$WORD" = hush && stat -c %a:%u /run/word
RUN grep -q buildkitsandbox /etc/hosts && echo lost >/etc/hosts && echo lost >/etc/resolv.conf && echo x >/dev/null && touch /dev/lost && head -c 4 /dev/zero >/zeros
USER 5:6
WORKDIR /home/five
RUN touch here && id >there && umask >mask; (exec setsid sleep 4321 >/dev/null 2>&1 &)
FROM busybox
COPY --from=made /m /m
COPY --from=made --chown=1:2 /many/fb* /some/
RUN ls -ln /m /some | wc -l >/listed
`

// TestSameBytesLived: programs without namespaces leave the bytes that they leave in a root that is mounted.
func TestSameBytesLived(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	tool(t, "sh", "-c", `mkdir -p "$0/tools" && cd "$0" && cp /usr/sbin/setcap /usr/bin/setfattr tools &&
for p in tools/set*; do ldd $p | grep -o '/[^ ]*' | grep -E 'libcap|libattr' | xargs cp -Lt tools; done; chmod -R a+rX . && echo hush >secret && printf hush >secret`, work)
	if err := os.WriteFile(work+"/Dockerfile", []byte(livedDockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	build := func(s *store, dir string) string {
		s.importBase(t, "debian")
		s.importBase(t, "busybox")
		r := s.run(t, "build", "--progress", "plain", "--secret", "id=word,src="+dir+"/secret", "-t", "whole", "--target", "made", dir)
		if r.code != 0 {
			t.Fatal(r)
		}
		s.ok(t, "build", "-q", "--secret", "id=word,src="+dir+"/secret", "-t", "lived", dir)
		s.check(t)
		return s.inspect(t, "whole", "{{.RootFS.Layers}} {{.Id}}") + s.inspect(t, "lived", "{{.Id}}")
	}
	rooted := newStore(t)
	rooted.env = append(rooted.env, "SOURCE_DATE_EPOCH=1000000000")
	want := build(rooted, work)
	s, home := newContained(t)
	tool(t, "cp", "-r", work+"/.", home+"/ctx")
	if got := build(s, home+"/ctx"); got != want {
		t.Errorf("%s, wanted\n%s", got, want)
	}
	if left := processes("4321"); len(left) > 0 {
		t.Errorf("%q goes on", left)
	}
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
	for range 100 {
		if len(processes("5432")) == 0 {
			break
		}
		tool(t, "sleep", "0.05")
	}
	if left := processes("5432"); len(left) > 0 {
		t.Errorf("%q goes on", left)
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
