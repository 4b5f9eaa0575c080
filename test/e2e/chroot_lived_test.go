package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// buildInside builds a Dockerfile as root of a container with docker's default rights. Around the working trees there is what
// nothing of a build may find or change: /canary in the container, and home/canary on its volume.
func (s *store) buildInside(t testing.TB, home, text, after string) (out, log string, err error) {
	t.Helper()
	dir := filepath.Join(home, "ctx")
	os.MkdirAll(dir, 0o755)
	if err := os.WriteFile(dir+"/Dockerfile", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `umask 022; mkdir -p /canary/etc ` + home + `/canary; echo untouched | tee /canary/file /canary/resolv.conf /canary/null ` + home + `/canary/file >/dev/null
sum() { (find / -xdev -path /proc -prune -o -path /tmp -prune -o -path /var/tmp -prune -o -printf '%p %y %m %U:%G %s %l %T@\n'; cat /etc/* /canary/* ` + home + `/canary/* 2>/dev/null; ls -A ` + home + `) | sha256sum; }
before=$(sum)
` + nacre + ` --root ` + s.root + ` build --progress plain -t made ` + dir + ` || echo "failed: $?"
test "$before" = "$(sum)" || echo changed
` + after
	argv := append(append([]string{}, s.wrap...), "sh", "-c", script)
	var stdout, stderr strings.Builder
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	return strings.TrimSpace(stdout.String()), stderr.String(), err
}

// TestChrootHostile: whatever a step does to its root, nothing around is seen or changed, and the steps after it find a root
// that is whole.
func TestChrootHostile(t *testing.T) {
	t.Parallel()
	s, home := newContained(t)
	s.wrap = slices.Insert(s.wrap, slices.Index(s.wrap, "--rm"), "--pids-limit", "300")
	s.importBase(t, "busybox")
	for _, c := range []struct{ name, steps, want string }{
		{"removes all", "RUN rm -rf /* 2>/dev/null; cd /; echo *\nCOPY Dockerfile /", ""},
		{"removes all, and goes on", "RUN rm -rf /* 2>/dev/null; true\nRUN true", `exit code: 127`},
		{"etc leads out", "RUN mv /etc /old && ln -s /../../../../../.. /etc\nRUN echo x >/etc/file && test -f /file && test -f /hosts", ""},
		{"etc leads to the canary", "RUN mv /etc /old && ln -s /canary/etc /etc\nRUN echo x >/etc/file && test -f /canary/etc/hosts", ""},
		{"resolv.conf leads out", "RUN rm -f /etc/resolv.conf; ln -s /canary/resolv.conf /etc/resolv.conf\nRUN echo x >/etc/resolv.conf\nRUN test ! -e /canary", ""},
		{"dev leads out", "RUN rm -rf /dev && ln -s /canary /dev\nRUN echo x >/dev/null && rm -rf /dev/*; test ! -e /canary", ""},
		{"proc leads out", "RUN rm -rf /proc /sys && ln -s /canary /proc && ln -s / /sys\nRUN echo x >/proc/file; ls /sys\nRUN test ! -e /canary", ""},
		{"hard links of what is put there", "RUN ln /etc/hosts /kept && ln /etc/resolv.conf /kept2 && echo more >>/kept\nRUN grep more /kept && ! grep more /etc/hosts", ""},
		{"mounts are moved", "RUN --mount=type=cache,target=/c/d --mount=type=tmpfs,target=/c/t mv /c /x; mkdir /c; ln -s /canary /c/d; ln -s /canary /c/t; echo kept >/x/d/f\nRUN --mount=type=cache,target=/c/d grep kept /c/d/f && ! test -e /x/d/f", ""},
		{"mounts are removed", "RUN --mount=type=cache,target=/c/d --mount=type=secret,id=x,target=/s/x --mount=type=bind,target=/b rm -rf /c /b /s\nRUN --mount=type=cache,target=/c/d touch /c/d/f", ""},
		{"mounts become links", "RUN --mount=type=cache,target=/c/d rm -r /c/d && ln -s /canary /c/d\nRUN --mount=type=cache,target=/c/d touch /c/d/f && test ! -L /c/d\nRUN test ! -e /canary", ""},
		{"the working directory leads out", "RUN ln -s /canary /w\nWORKDIR /w\nRUN echo x >f; pwd -P >/tmp/pwd; grep '^/canary$' /tmp/pwd", ""},
		{"what is of /proc is written to", "RUN echo x >>/proc/cpuinfo; rm -rf /proc/sys && ln -s /canary /proc/sys; ln /proc/meminfo /kept; mkdir /proc/1\nRUN ! grep -x x /proc/cpuinfo && test -f /proc/sys/kernel/osrelease && test -f /kept\nRUN rm -rf /proc /sys", ""},
		{"mknod and chroot", "RUN ! mknod /x b 8 0 && ! chroot / true && mkfifo /pipe", ""},
		{"nothing is open or seen", "RUN for n in 3 4 5 6 7 8 9; do (: <&$n) 2>/dev/null && echo open $n && exit 1; done; test -z \"$(ls -A /sys)\" && test \"$(cd /proc; echo *)\" = 'cpuinfo filesystems loadavg meminfo stat sys uptime version' && ! ls -d /canary /store " + "&& test \"$(env | grep -vc -e ^PATH= -e ^HOME= -e ^PWD= -e ^SHLVL= -e ^OLDPWD=)\" = 0", ""},
		{"processes that stay", "RUN (setsid sh -c 'while :; do sleep 4321; done' &) ; sleep 4321 & echo left\nRUN true", ""},
		{"the process above is killed", "RUN (setsid sleep 4321 &); kill -9 $PPID; sleep 4321", `process above it was killed`},
		{"itself is killed", "RUN kill -9 $$", `exit code: 137`},
		{"forks without an end", "RUN f() { f | f & }; f; sleep 1; true\nRUN true", "any"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, log, err := s.buildInside(t, home, "FROM busybox\n"+c.steps+"\n", "grep -ls 'sleep[^a-z.]432' /proc/[0-9]*/cmdline && echo running; ls "+s.root+"/tmp | sed s/^/tree/")
			if err != nil || c.want == "" && out != "" || c.want != "" && c.want != "any" && (!strings.HasPrefix(out, "failed: 1") || !strings.Contains(log, c.want)) {
				t.Errorf("%v, %q\n%s", err, out, log)
			}
			if strings.Contains(out, "changed") || strings.Contains(out, "running") || strings.Contains(out, "tree") {
				t.Errorf("left behind: %q\n%s", out, log)
			}
		})
	}
}

// TestChrootReal: what people build builds by chroot, says once what it does without, and runs elsewhere.
func TestChrootReal(t *testing.T) {
	t.Parallel()
	s, home := newContained(t)
	s.importBase(t, "debian", `CMD ["bash"]`)
	full := newStore(t)
	build := func(name string, more ...string) result {
		t.Helper()
		dir := filepath.Join(home, name)
		tool(t, "cp", "-rT", "testdata/"+name, dir)
		r := s.run(t, append(append([]string{"build", "--progress", "plain", "-t", name}, proxyArgs()...), append(more, dir)...)...)
		if r.code != 0 {
			t.Fatal(r)
		}
		if n := strings.Count(r.stderr, "no /proc and /sys in RUN steps"); n != 1 {
			t.Errorf("the missing /proc is mentioned %d times: %v", n, r)
		}
		return r
	}
	build("nginx")
	s.ok(t, "save", "-o", home+"/nginx.tar", "nginx")
	full.ok(t, "load", "-i", home+"/nginx.tar")
	if r := full.run(t, "run", "--rm", "--network", "none", "nginx", "sh", "-c", "nginx -t && stat -c %U /var/log/nginx/error.log && dpkg --audit"); r.code != 0 || r.stdout != "www-data\n" {
		t.Errorf("nginx: %v", r)
	}
}

// TestChrootBytes: a stage's root is unpacked once. Twenty steps write what one writes, but for their own changes.
func TestChrootBytes(t *testing.T) {
	t.Parallel()
	s := shared.store(t, "debian")
	base := fileSize(t, baseTar(t, "debian"))
	s.wrap = []string{"sh", "-c", `"$@" >&2; code=$?; cat /proc/$$/io; exit $code`, "sh"}
	written := func(steps int) int {
		text := "FROM debian\n"
		for i := range steps {
			text += fmt.Sprintf("RUN echo %d >/f%d\n", i, i)
		}
		out := s.ok(t, "build", "-q", "--no-cache", "--isolation=chroot", filepath.Dir(writeOne(t, text)))
		for line := range strings.Lines(out) {
			if n, ok := strings.CutPrefix(line, "wchar: "); ok {
				bytes, _ := strconv.Atoi(strings.TrimSpace(n))
				return bytes
			}
		}
		t.Fatalf("no count in %q", out)
		return 0
	}
	one, many := written(1), written(20)
	if one < base/2 || many-one > base/10 {
		t.Errorf("of a base of %d bytes one step writes %d, twenty write %d", base, one, many)
	}
}

func fileSize(t testing.TB, name string) int {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Size())
}

// TestChrootFull: a full disk is an error with its reason, and leaves nothing behind.
func TestChrootFull(t *testing.T) {
	t.Parallel()
	s := newTmpfs(t, "12m")
	s.importBase(t, "busybox")
	for text, want := range map[string]string{
		"RUN head -c 30000000 /dev/zero >/big":                           `(?i)no space left`,
		"RUN head -c 5000000 /dev/urandom >/a; true\nRUN cp /a /b; true": `(?i)no space left`,
	} {
		r := s.run(t, "build", "--progress", "plain", "--no-cache", "--isolation=chroot", filepath.Dir(writeOne(t, "FROM busybox\n"+text+"\n")))
		if r.code != 1 {
			t.Errorf("%s: %v", want, r)
		}
		if list, _ := os.ReadDir(filepath.Join(s.root, "tmp")); len(list) > 0 {
			t.Errorf("left behind: %v", list)
		}
	}
	s.ok(t, "build", "-q", "--isolation=chroot", filepath.Dir(writeOne(t, "FROM busybox\nRUN echo x >/x\n")))
	s.check(t)
}

// TestChrootExtras: an agent, secrets and a shell where a step failed are to be had by chroot, too, and nothing of them stays.
func TestChrootExtras(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	dir := t.TempDir()
	tool(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir+"/key")
	writeAll(t, dir+"/secret", []byte("hidden"))
	build := func(stdin, text string, more ...string) result {
		t.Helper()
		args := []string{"build", "--progress", "plain", "--isolation=chroot", "--ssh", "default=" + dir + "/key", "--secret", "id=s,src=" + dir + "/secret"}
		return s.runIn(t, stdin, append(append(args, more...), filepath.Dir(writeOne(t, "FROM busybox\n"+text)))...)
	}
	r := build("", "RUN --mount=type=ssh,required [ -S $SSH_AUTH_SOCK ] && echo $SSH_AUTH_SOCK >/sock\n"+
		"RUN --mount=type=secret,id=s test $(cat /run/secrets/s) = hidden\nRUN test ! -e $(cat /sock) && test ! -e /run\n")
	if r.code != 0 {
		t.Errorf("agent and secret: %v", r)
	}
	r = build("echo left: $(cat /made), $(pwd), $(cat /run/secrets/s)\n", "WORKDIR /w\nRUN --mount=type=secret,id=s echo made >/made; exit 5\n", "--debug-shell")
	if r.code != 1 || !strings.Contains(r.stderr, "\nleft: made, /w, ") || !strings.Contains(r.stderr, "exit code: 5") {
		t.Errorf("debug shell: %v", r)
	}
	if list, _ := os.ReadDir(filepath.Join(s.root, "tmp")); len(list) > 0 {
		t.Errorf("left behind: %v", list)
	}
}
