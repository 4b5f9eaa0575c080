package e2e

import (
	"os"
	"strings"
	"testing"
)

// TestIsolationNotes: what keeps an ordinary user from the best way is said, with what to do, and builds go the next best.
func TestIsolationNotes(t *testing.T) {
	t.Parallel()
	over := "rm -rf $d/*; mkdir $d/u $d/w; mount -t overlay -o lowerdir=/usr/bin,upperdir=$d/u,workdir=$d/w overlay /usr/bin; "
	none := "echo 0 >$d/zero; chmod 644 $d/zero; mount --bind $d/zero /proc/sys/user/max_user_namespaces"
	for _, c := range []struct{ name, user, as, prepare, kind, why, hint string }{
		{"as it is", "nacre-test", "", "", "userns", "the user is not root", ""},
		{"no line", "nacre-one", "", "", "single", "/etc/subuid has no subordinate ids for nacre-one", "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 nacre-one"},
		{"few", "nacre-test", "", "echo nacre-test:1900000000:10 >$d/sub; chmod 644 $d/sub; mount --bind $d/sub /etc/subuid", "single",
			"/etc/subuid gives nacre-test only 10 subordinate ids, images use 65535", "usermod --add-subuids"},
		{"no newuidmap", "nacre-test", "", over + "rm /usr/bin/newuidmap", "single", "newuidmap not found", "install uidmap"},
		{"newgidmap for nobody", "nacre-test", "", over + "chmod 700 /usr/bin/newgidmap", "single", "newgidmap cannot be executed by the user", "install it again"},
		{"no setuid", "nacre-test", "", over + "cp /usr/bin/newuidmap $d/n; chmod 755 $d/n; mv $d/n /usr/bin/newuidmap", "single", "/usr/bin/newuidmap is neither setuid nor has it capabilities", "install it again"},
		{"nosuid", "nacre-test", "", "mount --bind /usr/bin /usr/bin; mount -o remount,bind,nosuid /usr/bin", "single", "it is on a file system mounted nosuid", ""},
		{"no new rights", "nacre-test", "--no-new-privs", "", "single", "newuidmap cannot get its rights: no_new_privs is set", ""},
		{"no namespaces", "nacre-test", "", none, "none", "user namespaces are switched off: /proc/sys/user/max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, home := newUserStore(t, c.user)
			s.importBase(t, "busybox", `CMD ["sh"]`)
			if err := os.Mkdir(home+"/ctx", 0o755); err != nil {
				t.Fatal(err)
			}
			writeAll(t, home+"/ctx/Dockerfile", []byte("FROM busybox\nRUN touch /f && chown 33:33 /f && test $(stat -c %u:%g /f) = 33:33\n"))
			script := "set -e; d=" + home + "/mounts; mkdir -p $d; chmod 755 $d; " + c.prepare + "\nexec \"$@\""
			if c.as != "" {
				s.wrap = append(s.wrap, c.as)
			}
			s.wrap = append([]string{"unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"}, s.wrap...)
			if got := s.ok(t, "info", "-f", "{{.Isolation.Kind}}"); got != c.kind {
				t.Errorf("it is %s, wanted %s", got, c.kind)
			}
			if info := s.ok(t, "info"); !strings.Contains(info, c.why) || !strings.Contains(info, c.hint) {
				t.Errorf("info says\n%s, wanted %q and %q", info, c.why, c.hint)
			}
			r := s.run(t, "--log-level", "debug", "build", "-q", home+"/ctx")
			if (r.code == 0) != (c.kind != "none") || strings.Count(r.stderr, c.why) < 1 || !strings.Contains(r.stderr, c.hint) {
				t.Errorf("%q and %q are wanted: %v", c.why, c.hint, r)
			}
			if c.kind != "none" && strings.Count(r.stderr, "debug: isolation "+c.kind+":") != 1 {
				t.Errorf("the way is to be said once: %v", r)
			}
		})
	}
}
