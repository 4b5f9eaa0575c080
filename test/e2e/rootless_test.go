package e2e

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The ordinary users that scripts/setup makes, and what each gets.
var ordinaryUsers = []struct{ name, isolation string }{
	{"nacre-test", "userns"}, // has subordinate ids
	{"nacre-one", "single"},  // has none
}

var setupUsers = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("../../scripts/setup", "users").CombinedOutput()
	return string(out), err
})

// newUserStore returns an empty store whose nacre runs as one of the ordinary users, and a folder that
// the user owns.
func newUserStore(t testing.TB, name string) (s *store, home string) {
	t.Helper()
	if out, err := setupUsers(); err != nil {
		t.Fatalf("setup users: %v\n%s", err, out)
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	home, err = os.MkdirTemp("", "nacre-home-")
	if err != nil {
		t.Fatal(err)
	}
	// By root: what containers left belongs to all kinds of owners.
	t.Cleanup(func() { os.RemoveAll(home) })
	tool(t, "chown", name+":", home)
	return &store{
		root: filepath.Join(home, "root"),
		wrap: []string{"setpriv", "--reuid", u.Uid, "--regid", u.Gid, "--clear-groups"},
		env:  []string{"HOME=" + home, "XDG_DATA_HOME=", "XDG_RUNTIME_DIR=", "TMPDIR=" + home},
	}, home
}

// TestRootlessRun: an ordinary user runs containers, as root inside and as somebody else.
func TestRootlessRun(t *testing.T) {
	t.Parallel()
	for _, u := range ordinaryUsers {
		t.Run(u.name, func(t *testing.T) {
			s, home := newUserStore(t, u.name)
			s.importBase(t, "busybox", `CMD ["sh"]`)
			if out := s.ok(t, "run", "--rm", "busybox", "id", "-u"); out != "0" {
				t.Errorf("id -u: %q", out)
			}
			if out := s.ok(t, "run", "--rm", "-u", "33:33", "busybox", "id"); !strings.HasPrefix(out, "uid=33(www-data) gid=33(www-data)") {
				t.Errorf("id: %q", out)
			}
			if out := s.ok(t, "run", "--rm", "--network", "none", "busybox", "sh", "-c", "ls /sys/class/net; echo x >/dev/null; head -c 3 /dev/zero | wc -c"); out != "lo\n3" {
				t.Errorf("in a network of its own: %q", out)
			}
			if r := s.run(t, "run", "--rm", "busybox", "sh", "-c", "exit 7"); r.code != 7 {
				t.Errorf("exit code 7 is wanted: %v", r)
			}
			if r := s.run(t, "run", "--rm", "busybox", "mount", "-t", "tmpfs", "x", "/mnt"); r.code == 0 {
				t.Errorf("it can mount: %v", r)
			}
			// What it writes to a directory of the user's is the user's.
			if err := os.Mkdir(home+"/shared", 0o777); err != nil {
				t.Fatal(err)
			}
			os.Chmod(home+"/shared", 0o777)
			s.ok(t, "run", "--rm", "-v", home+"/shared:/s", "busybox", "touch", "/s/f")
			if got, want := tool(t, "stat", "-c", "%U", home+"/shared/f"), u.name; got != want {
				t.Errorf("the file is %s's, wanted %s's", got, want)
			}
			r := s.run(t, "--log-level", "debug", "run", "--rm", "busybox", "true")
			if r.code != 0 || !strings.Contains(r.stderr, "isolation "+u.isolation+":") {
				t.Errorf("isolation %s is wanted: %v", u.isolation, r)
			}
			s.check(t)
		})
	}
}
