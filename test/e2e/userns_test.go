package e2e

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestUsernsAuto: root of a container is nobody on the machine, and what it writes is root's all the same.
func TestUsernsAuto(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"index", "trees"} {
		t.Run(form, func(t *testing.T) {
			s := newStore(t)
			if form == "trees" {
				s.root = newTmpfs(t, "200m").root
			}
			s.importBase(t, "busybox", `CMD ["sh"]`)
			auto := func(args ...string) []string {
				return append([]string{"run", "--userns", "auto", "--network", "none"}, args...)
			}
			out := s.ok(t, auto("--rm", "-v", "vol:/vol", "busybox", "sh", "-c",
				"id -u; touch /x /vol/x; chown 33:34 /x /vol/x; chmod 4755 /x; stat -c %u:%g:%a /x /vol/x /etc/passwd; echo out >/dev/stdout; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; mknod /n c 1 3 2>/dev/null || echo none")...)
			if want := "0\n33:34:4755\n33:34:644\n0:0:644\nout\n0\nnone"; out != want {
				t.Errorf("%q, wanted %q", out, want)
			}
			if got := tool(t, "stat", "-c", "%u:%g", s.root+"/volumes/vol/_data/x"); got != "33:34" {
				t.Errorf("on disk the owner is %s", got)
			}
			if out := s.ok(t, auto("--rm", "-u", "33", "busybox", "sh", "-c", "id -u; echo x >/dev/stderr")...); out != "33" {
				t.Errorf("id: %q", out)
			}

			// The machine sees other users, another for each container.
			users := map[string]bool{}
			for _, name := range []string{"one", "two"} {
				s.ok(t, auto("-d", "--memory", "64m", "--name", name, "busybox", "sleep", "1000")...)
				defer s.ok(t, "rm", "-f", name)
				status, err := os.ReadFile("/proc/" + s.ok(t, "container", "inspect", "--format", "{{.State.Pid}}", name) + "/status")
				if err != nil {
					t.Fatal(err)
				}
				m := regexp.MustCompile(`\nUid:\t(\d+)\t`).FindSubmatch(status)
				if uid, _ := strconv.Atoi(string(m[1])); uid < 524288 || users[string(m[1])] {
					t.Errorf("the program's user is %d", uid)
				}
				users[string(m[1])] = true
			}

			// What is the machine's stays so.
			dir := t.TempDir()
			os.WriteFile(dir+"/secret", []byte("x"), 0o600)
			if r := s.run(t, auto("--rm", "-v", dir+":/host", "busybox", "sh", "-c", "stat -c %u /host; cat /host/secret")...); r.code == 0 || !strings.HasPrefix(r.stdout, "65534") {
				t.Errorf("a file of root's can be read: %v", r)
			}

			// A container goes on with what it wrote.
			s.ok(t, auto("--name", "again", "busybox", "sh", "-c", "cat /f 2>/dev/null; echo more >>/f; chown 7 /f; stat -c %u /f")...)
			if out := s.ok(t, "start", "-a", "again"); out != "more\n7" {
				t.Errorf("started again: %q", out)
			}
		})
	}
}

// TestUsernsAutoRefused: it takes root.
func TestUsernsAutoRefused(t *testing.T) {
	t.Parallel()
	s, _ := newUserStore(t, "nacre-test")
	s.importBase(t, "busybox")
	s.fails(t, 125, []string{`--userns=auto takes root`}, "run", "--userns", "auto", "busybox", "true")
	s.fails(t, 125, []string{`--userns=mine: want auto or host`}, "run", "--userns", "mine", "busybox", "true")
}
