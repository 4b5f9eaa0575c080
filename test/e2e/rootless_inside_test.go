package e2e

import (
	"os"
	"strings"
	"testing"
)

// TestRootlessInside: an ordinary user works on and in containers.
func TestRootlessInside(t *testing.T) {
	t.Parallel()
	for _, u := range ordinaryUsers {
		t.Run(u.name, func(t *testing.T) {
			s, home := newUserStore(t, u.name)
			s.importBase(t, "busybox", `CMD ["sh"]`)
			s.ok(t, "run", "-d", "--name", "web", "--network", "none", "busybox", "sleep", "1000")
			t.Cleanup(func() { s.run(t, "rm", "-f", "web") })
			if out := s.ok(t, "exec", "web", "sh", "-c", "touch /new; id -u"); out != "0" {
				t.Errorf("exec: %q", out)
			}
			if r := s.run(t, "exec", "web", "sh", "-c", "exit 7"); r.code != 7 {
				t.Errorf("exit code 7 is wanted: %v", r)
			}
			if err := os.WriteFile(home+"/file", []byte("hello\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			s.ok(t, "cp", home+"/file", "web:/in")
			if out := s.ok(t, "diff", "web"); out != "A /in\nA /new" {
				t.Errorf("diff: %q", out)
			}
			if out := s.ok(t, "top", "web"); !strings.Contains(out, "sleep 1000") {
				t.Errorf("top: %q", out)
			}
			s.ok(t, "commit", "web", "changed")
			s.ok(t, "stop", "-t", "0", "web")
			s.ok(t, "cp", home+"/file", "web:/late")
			s.ok(t, "cp", "web:/in", home+"/out")
			if data, err := os.ReadFile(home + "/out"); string(data) != "hello\n" {
				t.Errorf("cp: %q, %v", data, err)
			}
			s.ok(t, "start", "web")
			if out := s.ok(t, "exec", "web", "cat", "/late"); out != "hello" {
				t.Errorf("after a start: %q", out)
			}
			if out := s.ok(t, "run", "--rm", "--network", "none", "changed", "ls", "/new"); out != "/new" {
				t.Errorf("commit: %q", out)
			}
		})
	}
}
