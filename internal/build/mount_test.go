package build

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nacre/internal/registry"
)

// withBusybox gives b's store the image busybox.
func (b *bench) withBusybox() *bench {
	b.t.Helper()
	cmd := exec.Command("../../scripts/setup", "busybox")
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatal(err)
	}
	tar, err := os.ReadFile(strings.TrimSpace(string(out)))
	if err != nil {
		b.t.Fatal(err)
	}
	ref, err := registry.ParseRef("busybox")
	if err != nil {
		b.t.Fatal(err)
	}
	base := &bench{t: b.t, store: b.store, dir: b.t.TempDir(), opts: Options{Names: []registry.Ref{ref}}}
	base.write(map[string]string{"bb.tar": string(tar)})
	base.build("FROM scratch\nADD bb.tar /\nENV PATH=/usr/bin:/bin\n")
	return b
}

func (b *bench) absent(o outcome, names ...string) {
	b.t.Helper()
	for _, name := range names {
		if _, err := b.root(o).Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			b.t.Errorf("%s is in the image (%v)", name, err)
		}
	}
}

func TestMountBind(t *testing.T) {
	b := newBench(t, map[string]string{"src/a": "of a", "src/ignored": "x", "file": "of file", ".dockerignore": "src/ignored\n"}).withBusybox()
	const df = `FROM busybox AS tools
RUN mkdir -m 711 /opt && echo tool > /opt/tool && chown 5:6 /opt/tool && ln -s tool /opt/link

FROM busybox
RUN --mount=target=/ctx ls -A /ctx /ctx/src > /whole
RUN --mount=target=/mnt/file,source=file cat /mnt/file > /file
RUN --mount=target=/mnt,source=src,rw ls /mnt > /part && echo new > /mnt/a && rm -r /mnt/* && ls /mnt >> /part
RUN --mount=target=/mnt,source=src (echo x > /mnt/a) 2>&1 | grep -o Read-only > /ro; stat -c '%u:%g' /mnt/a >> /ro
RUN --mount=from=tools,target=/mnt,source=/opt cat /mnt/link > /tool; stat -c '%u:%g' /mnt/tool >> /tool; stat -c %a /mnt >> /tool
RUN --mount=from=tools,target=/mnt,rw cat /mnt/opt/tool > /all && echo gone > /mnt/opt/tool && cat /mnt/opt/tool >> /all
RUN --mount=from=busybox,target=/busybox,source=/bin/busybox /busybox echo image > /image
RUN --mount=target=/etc,source=src cat /etc/a > /etcfile
`
	out := b.build(df)
	for name, want := range map[string]string{
		"whole": "/ctx:\n.dockerignore\nDockerfile\nfile\nsrc\n\n/ctx/src:\na\n",
		"file":  "of file", "part": "a\n", "ro": "Read-only\n0:0\n", "tool": "tool\n5:6\n711\n",
		"all": "tool\ngone\n", "image": "image\n", "etcfile": "of a",
	} {
		if got := b.read(out, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	b.absent(out, "ctx", "mnt", "busybox")
	b.build(df).expectRan(t)

	b.write(map[string]string{"src/a": "another"})
	again := b.build(df)
	for _, name := range again.ran {
		if !strings.Contains(name, "/ctx") && !strings.Contains(name, "source=src") {
			// what follows a step that came out otherwise runs, too
			if i := strings.Index(df, name); i < strings.Index(df, "source=src,rw") {
				t.Errorf("ran %q: nothing of it changed", name)
			}
		}
	}
	if got := b.read(again, "etcfile"); got != "another" {
		t.Errorf("etcfile is %q", got)
	}
}

// What a mounted stage came out as counts, not what made it.
func TestMountKeys(t *testing.T) {
	b := newBench(t, map[string]string{"v": "1"}).withBusybox()
	const df = `FROM busybox AS tools
COPY v /v
RUN mkdir /opt && echo tool > /opt/tool && touch -d @1 /opt/tool /opt
FROM busybox
RUN --mount=from=tools,target=/mnt,source=/opt cat /mnt/tool > /x
`
	const last = "RUN --mount=from=tools,target=/mnt,source=/opt cat /mnt/tool > /x"
	b.build(df)
	b.write(map[string]string{"v": "2"})
	out := b.build(df)
	if !slices.Contains(out.hit, last) || out.notes[last] != "same content" {
		t.Errorf("hit %q, notes %q", out.hit, out.notes)
	}
	changed := b.build(strings.Replace(df, "echo tool", "echo better", 1))
	if got := b.read(changed, "x"); got != "better\n" {
		t.Errorf("x is %q", got)
	}
}

func TestMountBindErrors(t *testing.T) {
	b := newBench(t, map[string]string{"f": "x", "drop": "x", ".dockerignore": "drop"}).withBusybox()
	for df, want := range map[string]string{
		"FROM busybox\nRUN --mount=target=/x,source=nope true":                                   `Dockerfile:2: "/nope": not found in the build context`,
		"FROM busybox\nRUN --mount=target=/x,source=drop true":                                   `Dockerfile:2: "/drop": not found in the build context`,
		"FROM busybox AS a\nRUN true\nFROM busybox\nRUN --mount=from=a,source=/q,target=/x true": `Dockerfile:4: mount of type bind: "/q": not found in a`,
		"FROM busybox\nRUN --mount=type=secret,id=s,required true":                               "Dockerfile:2: mount of type secret: secret s is required, and not given",
		"FROM busybox\nRUN --mount=type=ssh,required true":                                       "Dockerfile:2: mount of type ssh: SSH agent default is required, and not given",
		"FROM busybox\nRUN --mount=type=cache,from=busybox,source=/bin/busybox,target=/x true":   "source /bin/busybox is not a directory",
	} {
		if _, err := b.try(df); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\nerror %v, want one with %q", df, err, want)
		}
	}
}

func TestMountTmpfs(t *testing.T) {
	b := newBench(t, nil).withBusybox()
	out := b.build(`FROM busybox
RUN --mount=type=tmpfs,target=/scratch,size=1m grep ' /scratch ' /proc/mounts | grep -o 'size=[0-9]*k' > /size; echo x > /scratch/x
RUN --mount=type=tmpfs,target=/bin/x --mount=type=tmpfs,target=/bin/x/y touch /bin/x/y/z
`)
	if got := b.read(out, "size"); got != "size=1024k\n" {
		t.Errorf("size %q", got)
	}
	b.absent(out, "scratch", "bin/x")
}

func TestMountCache(t *testing.T) {
	b := newBench(t, map[string]string{"n": "1"}).withBusybox()
	df := func(n string) string {
		return `FROM busybox AS seed
RUN mkdir -p /seed/sub && echo s > /seed/sub/s && ln -s /etc/passwd /seed/link && chown -h 3:4 /seed/sub/s
FROM busybox
ARG N=` + n + `
RUN --mount=type=cache,target=/c echo $N >> /c/log && cp /c/log /log
RUN --mount=type=cache,id=seeded,from=seed,source=/seed,target=/c,sharing=locked echo $N >> /c/sub/s; cat /c/sub/s > /seeded; stat -c %u:%g /c/sub/s >> /seeded; readlink /c/link >> /seeded
RUN --mount=type=cache,id=own,target=/c,uid=7,gid=8,mode=0770 stat -c %u:%g:%a /c > /own
RUN --mount=type=cache,target=/c,readonly (echo x > /c/log) 2>&1 | grep -o Read-only > /ro
RUN --mount=type=cache,target=/c --mount=type=cache,target=/d,id=/c,sharing=private cmp /c/log /d/log
`
	}
	out := b.build(df("1"))
	for name, want := range map[string]string{"log": "1\n", "seeded": "s\n1\n3:4\n/etc/passwd\n", "own": "7:8:770\n", "ro": "Read-only\n"} {
		if got := b.read(out, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	b.absent(out, "c", "d")
	b.build(df("1")).expectRan(t)
	out = b.build(df("2"))
	for name, want := range map[string]string{"log": "1\n2\n", "seeded": "s\n1\n2\n3:4\n/etc/passwd\n"} {
		if got := b.read(out, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	list, err := b.store.CacheDirs(context.Background())
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	for _, c := range list {
		if c.InUse {
			t.Errorf("%s is still in use", c.ID)
		}
		if want := map[string]string{"own": "mode=0770 uid=7 gid=8", "/c": ""}[c.ID]; c.ID != "seeded" && c.Variant != want {
			t.Errorf("%s: variant %q", c.ID, c.Variant)
		}
	}
}

// Locked caches let one step in at a time; steps that take two in different order do
// not wait for each other for ever.
func TestMountCacheLocked(t *testing.T) {
	b := newBench(t, nil).withBusybox()
	step := func(first, second string) string {
		return "RUN --mount=type=cache,sharing=locked,target=/" + first + " --mount=type=cache,sharing=locked,target=/" + second +
			" [ ! -e /a/busy ] && touch /a/busy && sleep 0.05 && rm /a/busy && echo " + first + " >> /a/log && cp /a/log /log\n"
	}
	var df strings.Builder
	for i, order := range []string{"ab", "ba", "ab", "ba"} {
		df.WriteString("FROM busybox AS s" + string(rune('0'+i)) + "\nENV N=" + string(rune('0'+i)) + "\n" + step(order[:1], order[1:]))
	}
	df.WriteString("FROM busybox\nCOPY --from=s0 /log /0\nCOPY --from=s1 /log /1\nCOPY --from=s2 /log /2\nCOPY --from=s3 /log /3\n")
	done := make(chan struct{})
	go func() {
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			panic("the build does not end")
		}
	}()
	out := b.build(df.String())
	close(done)
	longest := 0
	for _, name := range []string{"0", "1", "2", "3"} {
		longest = max(longest, strings.Count(b.read(out, name), "\n"))
	}
	if longest != 4 {
		t.Errorf("the last of four steps saw %d", longest)
	}
}

const secretText = "s3cr3t-Tr33-of-knowledge"

func TestMountSecret(t *testing.T) {
	b := newBench(t, nil).withBusybox()
	b.opts.Secret = func(id string) ([]byte, error) {
		return map[string][]byte{"key": []byte(secretText + "\nsecond-Line-of-it\n"), "tok": []byte(secretText)}[id], nil
	}
	const df = `FROM busybox
ENV TOKEN=old
RUN --mount=type=secret,id=key cat /run/secrets/key && stat -c %a:%u:%g /run/secrets/key > /default && wc -l < /run/secrets/key >> /default
RUN --mount=type=secret,id=tok,target=/etc/tok,mode=0444,uid=1,gid=2 stat -c %a:%u:%g /etc/tok > /given
RUN --mount=type=secret,id=tok,env=TOKEN echo -n "$TOKEN" | wc -c > /env; printf 'the %s is %s' "$TOKEN" "$TOKEN"
RUN --mount=type=secret,id=tok,env=T,target=/t [ "$(cat /t)" = "$T" ] && [ "$TOKEN" = old ]
RUN --mount=type=secret,id=none --mount=type=secret,id=none,env=NONE [ ! -e /run/secrets/none ] && [ -z "$NONE" ]
`
	out := b.build(df)
	for name, want := range map[string]string{"default": "400:0:0\n2\n", "given": "444:1:2\n", "env": "24\n"} {
		if got := b.read(out, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	b.absent(out, "run/secrets", "etc/tok", "t")
	if !strings.Contains(out.log, "the **** is ****") || strings.Contains(out.log, secretText) || strings.Contains(out.log, "second-Line") {
		t.Errorf("log %q", out.log)
	}
	b.opts.Secret = func(string) ([]byte, error) { return []byte("another value"), nil }
	b.build(df).expectRan(t) // it is in no key

	b.opts.Secret = func(string) ([]byte, error) { return []byte(secretText), nil }
	_, err := b.try("FROM busybox\nRUN --mount=type=secret,id=tok,env=T echo $T; exit 3\n")
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 3 || !strings.Contains(exit.Tail, "****") || strings.Contains(exit.Tail+err.Error(), secretText) {
		t.Errorf("error %v", err)
	}
	proxy := "http://user:" + secretText + "@proxy:3128"
	b.opts.BuildArgs = map[string]*string{"HTTP_PROXY": &proxy}
	out = b.build("FROM busybox\nRUN [ -n \"$http_proxy\" ] && echo ok > /ok\n")
	b.searchStore(secretText, "second-Line-of-it")
}

// searchStore fails where a file of the store has one of texts in it: database, its log,
// layers, blobs, caches, whatever is there.
func (b *bench) searchStore(texts ...string) {
	b.t.Helper()
	files := 0
	err := filepath.WalkDir(b.store.Root(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, text := range texts {
			if bytes.Contains(data, []byte(text)) || strings.Contains(path, text) {
				b.t.Errorf("%s has the secret in it", path)
			}
		}
		return nil
	})
	if err != nil || files < 10 {
		b.t.Errorf("searched %d files, %v", files, err)
	}
}

// The search would find it: this build puts it there.
func TestSecretSearchFinds(t *testing.T) {
	b := newBench(t, map[string]string{"f": secretText})
	b.build("FROM scratch\nCOPY f /f\n")
	found := false
	filepath.WalkDir(b.store.Root(), func(path string, d fs.DirEntry, err error) error {
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte(secretText)) {
			found = true
		}
		return nil
	})
	if !found {
		t.Error("a text that is in a layer is not found in the store")
	}
}

// pingAgent asks the agent a question and prints the answer.
const pingAgent = `package main

import ("io"; "net"; "os")

func main() {
	c, err := net.Dial("unix", os.Getenv("SSH_AUTH_SOCK"))
	if err != nil {
		panic(err)
	}
	c.Write([]byte("ping"))
	io.Copy(os.Stdout, c)
}
`

// program compiles a program into the context, one that needs no libraries.
func (b *bench) program(name, text string) {
	b.t.Helper()
	src := filepath.Join(b.t.TempDir(), "main.go")
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(b.dir, name), src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
}

func TestMountSSH(t *testing.T) {
	b := newBench(t, nil).withBusybox()
	b.program("ping", pingAgent)
	agent := filepath.Join(t.TempDir(), "a")
	l, err := net.Listen("unix", agent)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4)
			c.Read(buf)
			c.Write([]byte("to " + string(buf)))
			c.Close()
		}
	}()
	b.opts.SSH = map[string]string{"default": agent, "git": agent}
	out := b.build(`FROM busybox
RUN --mount=type=ssh --mount=target=/mnt echo $SSH_AUTH_SOCK > /env; stat -c %a:%u:%F $SSH_AUTH_SOCK >> /env; /mnt/ping > /reply
RUN --mount=type=ssh,id=git,target=/tmp/sock,mode=0666,uid=9 stat -c %a:%u /tmp/sock > /given; echo $SSH_AUTH_SOCK >> /given
RUN --mount=type=ssh,id=none [ ! -e /run/buildkit/ssh_agent.0 ]
`)
	for name, want := range map[string]string{
		"env": "/run/buildkit/ssh_agent.0\n600:0:socket\n", "given": "666:9\n/tmp/sock\n", "reply": "to ping",
	} {
		if got := b.read(out, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	b.absent(out, "run/buildkit", "tmp/sock")
}

func TestInsecure(t *testing.T) {
	b := newBench(t, nil).withBusybox()
	const df = "FROM busybox\nRUN --security=insecure mkdir /m && mount -t tmpfs none /m && mknod /tmp/null c 1 3 && echo x > /tmp/null && grep CapEff /proc/self/status > /caps; umount /m; rm /tmp/null\n" +
		"RUN ! mount -t tmpfs none /m 2>/dev/null && grep CapEff /proc/self/status > /usual\n"
	if _, err := b.try(df); err == nil || !strings.Contains(err.Error(), "--allow security.insecure") {
		t.Fatalf("error %v", err)
	}
	b.opts.Allow = []string{"security.insecure"}
	out := b.build(df)
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if caps := b.read(out, "caps"); caps == b.read(out, "usual") || !strings.Contains(string(own), caps) {
		t.Errorf("capabilities %q", caps)
	}
}
