package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// volumeImage has 400 files in /srv/data, some of them read-only or another user's.
func volumeImage(t *testing.T, s *store) {
	t.Helper()
	s.ok(t, "build", "-q", "-t", "full", writeFiles(t, map[string]string{"Dockerfile": `FROM busybox
RUN mkdir -p /srv/data && cd /srv/data && for d in 0 1 2 3; do mkdir $d && for f in $(seq 100); do echo $f >$d/$f; done; done && \
    chown -R 33:33 1 && chmod 555 2 && ln 3/1 3/hard && chmod 750 . && chown 7:8 .
`}))
}

// TestKillVolume kills what makes and fills a volume at random moments. The next use of it finds it
// whole, and nothing stays that would keep it from being removed.
func TestKillVolume(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	volumeImage(t, s)
	run := []string{"run", "--rm", "--network", "none", "-v", "data:/srv/data", "-v", "/anonymous", "full", "true"}
	start := time.Now()
	s.ok(t, run...)
	moment := moments(t, time.Since(start))
	s.ok(t, "volume", "rm", "data")
	killed := 0
	for range rounds / 2 {
		if !s.killed(t, moment(), run...) {
			killed++
		}
		out := s.ok(t, "run", "--rm", "--network", "none", "-v", "data:/srv/data", "full", "sh", "-c",
			"cd /srv/data; find . -type f | wc -l; cat */* | cksum; stat -c '%a %u:%g' . 1 1/1 2; stat -c %h 3/1")
		if want := "401\n"; !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "750 7:8\n755 33:33\n644 33:33\n555 0:0\n2") {
			t.Fatalf("the volume is not whole:\n%s", out)
		}
		s.ok(t, "volume", "rm", "data")
	}
	if killed == 0 {
		t.Error("nothing was ever killed in time")
	}
	// The next who makes a container with a volume finds what was left of those without a name.
	s.ok(t, run...)
	s.ok(t, "volume", "rm", "data")
	if out := s.ok(t, "volume", "ls", "-q"); out != "" {
		t.Errorf("volumes are left:\n%s", out)
	}
	s.check(t)
	if left := mounts(filepath.Dir(s.root)); len(left) > 0 {
		t.Errorf("mounts are left behind:\n%s", strings.Join(left, "\n"))
	}
}

// TestVolumeAtOnce: containers come and go with one volume, which others try to remove all the while. Each sees all that
// the image has, and what it wrote itself.
func TestVolumeAtOnce(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	volumeImage(t, s)
	var wg sync.WaitGroup
	var mu sync.Mutex
	removed, kept := 0, 0
	for i := range 8 {
		wg.Go(func() {
			for j := range 4 {
				if i%2 == 1 {
					r := s.run(t, "volume", "rm", "data")
					mu.Lock()
					switch {
					case r.code == 0:
						removed++
					case strings.Contains(r.stderr, "volume is in use"):
						kept++
					case !strings.Contains(r.stderr, "no such volume"):
						t.Errorf("volume rm: %v", r)
					}
					mu.Unlock()
					continue
				}
				name := fmt.Sprintf("mine-%d-%d", i, j)
				r := s.run(t, "run", "--rm", "--network", "none", "-v", "data:/srv/data", "full", "sh", "-c",
					"cd /srv/data; echo x >"+name+"; find [0-3] -type f | wc -l; cat "+name)
				if r.code != 0 || strings.TrimSpace(r.stdout) != "401\nx" {
					t.Errorf("run: %v", r)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("removed %d times, kept %d times", removed, kept)
	if r := s.run(t, "volume", "rm", "-f", "data"); r.code != 0 {
		t.Errorf("it is held by nobody: %v", r)
	}
	s.check(t)
}

// TestRootlessVolumes: an ordinary user has all kinds of mounts.
func TestRootlessVolumes(t *testing.T) {
	t.Parallel()
	for _, u := range ordinaryUsers {
		t.Run(u.name, func(t *testing.T) {
			s, home := newUserStore(t, u.name)
			s.importBase(t, "busybox", `CMD ["sh"]`)
			for _, c := range []struct {
				args []string
				want string
			}{
				{[]string{"-v", "data:/etc", "busybox", "sh", "-c", "echo 1 >/etc/mine; head -c 5 /etc/passwd"}, "root:"},
				{[]string{"-v", "data:/d:ro", "busybox", "sh", "-c", "cat /d/mine; touch /d/x 2>&1 | grep -o Read-only"}, "1\nRead-only"},
				{[]string{"-v", "/anon", "--tmpfs", "/t:size=64k,mode=751", "busybox", "sh", "-c", "echo 2 >/anon/x; cat /anon/x; stat -c %a /t"}, "2\n751"},
				{[]string{"--mount", "type=image,src=busybox,dst=/i,rw", "busybox", "sh", "-c", "echo 3 >/i/etc/x; cat /i/etc/x"}, "3"},
				{[]string{"--mount", "src=data,dst=/f,volume-subpath=mine,readonly", "busybox", "cat", "/f"}, "1"},
				{[]string{"-v", home + "/new/dir:/n", "busybox", "sh", "-c", "echo 4 >/n/x; cat /n/x"}, "4"},
				{[]string{"-v", "/usr:/u:ro", "busybox", "sh", "-c", "touch /u/x 2>&1 | grep -o Read-only"}, "Read-only"},
			} {
				if out := s.ok(t, append([]string{"run", "--rm", "--network", "none"}, c.args...)...); out != c.want {
					t.Errorf("%q: %q, want %q", c.args, out, c.want)
				}
			}
			if got, want := tool(t, "stat", "-c", "%U", filepath.Join(home, "new/dir/x")), u.name; got != want {
				t.Errorf("the file is %s's, wanted %s's", got, want)
			}
			if out := s.ok(t, "volume", "ls", "-q"); out != "data" {
				t.Errorf("volumes are %q", out)
			}
			s.ok(t, "volume", "rm", "data")
			if _, err := os.Stat(filepath.Join(s.root, "volumes/data")); err == nil {
				t.Error("it is still there")
			}
			s.check(t)
		})
	}
}
