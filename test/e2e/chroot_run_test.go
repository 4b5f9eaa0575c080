package e2e

import (
	"strings"
	"testing"
)

// TestChrootRun: where no container can be made, run --rm runs a program by chroot, and what takes more says so.
func TestChrootRun(t *testing.T) {
	t.Parallel()
	s, _ := newContained(t)
	s.importBase(t, "busybox", `CMD ["sh"]`, "ENV A=b", "WORKDIR /work")
	r := s.run(t, "run", "--rm", "-u", "www-data", "-e", "C=d", "busybox", "sh", "-c",
		"id -u; pwd; echo $A$C $HOME; ls -d /proc/[0-9s]*; cat /etc/hosts | grep -c localhost; echo x >/tmp/f; echo err >&2; exit 7")
	if r.code != 7 || r.stdout != "33\n/work\nbd /var/www\n/proc/stat\n/proc/sys\n2\n" || !strings.Contains(r.stderr, "no /proc and /sys") || !strings.HasSuffix(r.stderr, "err\n") {
		t.Errorf("run: %v", r)
	}
	if r := s.runIn(t, "from here", "run", "--rm", "-i", "busybox", "cat"); r.code != 0 || r.stdout != "from here" {
		t.Errorf("with input: %v", r)
	}
	if r := s.run(t, "run", "--rm", "busybox", "sh", "-c", "trap 'echo told; exit 3' TERM; kill -TERM $$; sleep 100"); r.code != 3 || r.stdout != "told\n" {
		t.Errorf("with a signal: %v", r)
	}
	out := s.inside(t, nacre+" --root "+s.root+` run --rm busybox sh -c 'trap "echo told; exit 3" TERM; echo ready; while :; do sleep 0.1; done' >/tmp/out 2>/dev/null & p=$!
until grep -q ready /tmp/out; do sleep 0.1; done; kill -TERM $p; wait $p; echo $?; tail -1 /tmp/out; ls `+s.root+`/tmp`)
	if out != "3\ntold" {
		t.Errorf("a signal that is passed on: %q", out)
	}
	s.fails(t, 127, []string{`exec "/no/such": no such file`}, "run", "--rm", "busybox", "/no/such")
	for _, c := range []struct {
		want string
		args []string
	}{
		{`a mount \(/x\) takes namespaces`, []string{"-v", "/tmp:/x"}},
		{`a terminal`, []string{"-t"}},
		{`a published port`, []string{"-p", "127.0.0.1::80"}},
		{`network none takes`, []string{"--network", "none"}},
		{`a limit takes`, []string{"--memory", "64m"}},
		{`a read-only root takes`, []string{"--read-only"}},
	} {
		s.fails(t, 125, []string{c.want}, append(append([]string{"run", "--rm"}, c.args...), "busybox", "true")...)
	}
	s.fails(t, 125, []string{`containers cannot be run here`, `run --rm without -d runs a program by chroot`}, "run", "busybox", "true")
	s.fails(t, 125, []string{`containers cannot be run here`}, "run", "--rm", "-d", "busybox", "true")
	s.check(t)
}
