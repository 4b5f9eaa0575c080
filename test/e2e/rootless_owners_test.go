package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRootlessOwners: owners that containers of an ordinary user give to files, links and pipes, in the container's own process
// and in others, are seen inside, and are in what is copied, exported and committed, with subordinate ids and without.
func TestRootlessOwners(t *testing.T) {
	t.Parallel()
	for _, u := range ordinaryUsers {
		t.Run(u.name, func(t *testing.T) {
			s, home := newUserStore(t, u.name)
			s.importBase(t, "busybox", `CMD ["sh"]`)
			ctx := filepath.Join(home, "ctx")
			sameContext(t, ctx, "FROM busybox\nRUN mkdir /b && cd /b && ln -s x link && mkfifo pipe && echo x >file && chown -h 21:22 link pipe file\n", false)
			s.ok(t, "build", "-q", "-t", "base", ctx)
			list := `find "$@" | sort | xargs -n1 stat -c '%n %u:%g'`
			s.ok(t, "run", "-d", "--name", "box", "--network", "none", "base", "sh", "-c",
				"mkdir /a && cd /a && ln -s x one && mkfifo p && echo x >f && chown -h 5:6 one p f && chown 3 /b/pipe && echo made >/ready; sleep 1000")
			t.Cleanup(func() { s.run(t, "rm", "-f", "box") })
			s.ok(t, "exec", "box", "sh", "-c", "until test -e /ready; do sleep 0.05; done; cd /a && ln -s y two && echo y >g && chown -h 7:8 two g && chown -h 9 /b/link")
			odd := filepath.Join(home, "odd.tar")
			writeAll(t, odd, oddTar(t))
			s.ok(t, "exec", "box", "mkdir", "/in")
			if r := s.runFile(t, odd, "cp", "-", "box:/"); r.code != 0 {
				t.Fatal(r)
			}
			want := `/a 0:0
/a/f 5:6
/a/g 7:8
/a/one 5:6
/a/p 5:6
/a/two 7:8
/b 0:0
/b/file 21:22
/b/link 9:22
/b/pipe 3:22
/in/link 21:22
/in/pipe 2:3
/in/setuid 33:33`
			look := []string{"sh", "-c", list, "sh", "/a", "/b", "/in/link", "/in/pipe", "/in/setuid"}
			if got := s.ok(t, append([]string{"exec", "box"}, look...)...); got != want {
				t.Errorf("in another process:\n%s, wanted\n%s", got, want)
			}
			tars := func(state string) {
				t.Helper()
				tar := filepath.Join(home, "c.tar")
				s.ok(t, "export", "-o", tar, "box")
				if got := ownersIn(t, tar, "a", "b", "in/link", "in/pipe", "in/setuid"); got != want {
					t.Errorf("exported, %s:\n%s, wanted\n%s", state, got, want)
				}
				for _, dir := range []string{"a", "b"} {
					writeAll(t, tar, []byte(s.ok(t, "cp", "box:/"+dir, "-")+"\n"))
					if got := ownersIn(t, tar, dir); !strings.Contains(want+"\n", got+"\n") || got == "" {
						t.Errorf("copied, %s:\n%s", state, got)
					}
				}
				s.ok(t, "commit", "box", "made")
				if got := s.ok(t, append([]string{"run", "--rm", "--network", "none", "made"}, look...)...); got != want {
					t.Errorf("committed, %s:\n%s, wanted\n%s", state, got, want)
				}
			}
			tars("running")
			s.ok(t, "kill", "box")
			tars("ended")
			s.ok(t, "start", "box")
			s.ok(t, "exec", "box", "sh", "-c", "until test -e /ready; do sleep 0.05; done")
			if got := s.ok(t, append([]string{"exec", "box"}, look...)...); got != want {
				t.Errorf("started again:\n%s, wanted\n%s", got, want)
			}

			// What another user makes is that user's.
			s.ok(t, "run", "--name", "other", "-u", "33:33", "--network", "none", "busybox", "sh", "-c", "cd /tmp && echo >f && ln -s f l && mkfifo p")
			writeAll(t, filepath.Join(home, "file"), []byte("x"))
			tool(t, "chown", u.name+":", filepath.Join(home, "file"))
			s.ok(t, "cp", filepath.Join(home, "file"), "other:/tmp/roots")
			s.ok(t, "export", "-o", home+"/other.tar", "other")
			mine := "/tmp/f 33:33\n/tmp/l 33:33\n/tmp/p 33:33\n/tmp/roots 0:0"
			if got := ownersIn(t, home+"/other.tar", "tmp/f", "tmp/l", "tmp/p", "tmp/roots"); got != mine {
				t.Errorf("of another user:\n%s, wanted\n%s", got, mine)
			}
			if u.isolation == "single" {
				s.fails(t, 125, []string{`user 33 is not to be had: .*one id`}, "exec", "-u", "33", "box", "true")
			}
			s.check(t)
		})
	}
}

// runFile is run with a file as standard input.
func (s *store) runFile(t testing.TB, file string, args ...string) result {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return s.runIn(t, string(data), args...)
}

// ownersIn lists owners in an archive of what begins with one of names.
func ownersIn(t testing.TB, file string, names ...string) string {
	t.Helper()
	out := tool(t, append([]string{"sh", "-c", `f=$1; shift; tar -tvf "$f" --numeric-owner "$@" | awk '{ sub("/$", "", $6); sub("/", ":", $2); print "/" $6, $2 }' | sort`, "sh", file}, names...)...)
	return out
}
