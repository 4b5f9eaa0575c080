package e2e

import (
	"strings"
	"testing"
)

// TestRootlessShared: containers of an ordinary user share namespaces, in whatever order they are started.
func TestRootlessShared(t *testing.T) {
	t.Parallel()
	for _, u := range ordinaryUsers {
		t.Run(u.name, func(t *testing.T) {
			s, _ := newUserStore(t, u.name)
			s.importBase(t, "busybox", `CMD ["sh"]`)
			const serve = "mkdir /www; echo hello >/www/index.html; touch /dev/shm/mark; exec busybox httpd -f -p 127.0.0.1:8000 -h /www"
			get := []string{"sh", "-c", "until busybox wget -q -O - http://127.0.0.1:8000/; do sleep 0.05; done"}
			s.ok(t, "run", "-d", "--name", "web", "--network", "none", "--ipc", "shareable", "busybox", "sh", "-c", serve)
			s.ok(t, "run", "-d", "--name", "other", "--network", "none", "busybox", "sleep", "1000")
			t.Cleanup(func() { s.run(t, "rm", "-f", "web", "other", "second", "third", "fourth") })
			run := func(mode string, args ...string) string {
				return s.ok(t, append([]string{"run", "--rm", mode}, args...)...)
			}
			if out := run("--network=container:web", append([]string{"busybox"}, get...)...); out != "hello" {
				t.Errorf("by its network: %q", out)
			}
			if out := run("--net=container:web", "busybox", "readlink", "/proc/self/ns/net"); out != s.ok(t, "exec", "web", "readlink", "/proc/self/ns/net") {
				t.Errorf("its network is %q", out)
			}
			if out := run("--network=container:web", "busybox", "sh", "-c", "touch /made; chown 33:33 /made; stat -c %u:%g /made; id -u"); out != "33:33\n0" {
				t.Errorf("owners: %q", out)
			}
			if out := run("--ipc=container:web", "--network=none", "busybox", "ls", "/dev/shm"); out != "mark" {
				t.Errorf("by its shared memory: %q", out)
			}
			if out := run("--pid=container:web", "--network=none", "busybox", "cat", "/proc/1/cmdline"); !strings.Contains(out, "httpd") {
				t.Errorf("by its processes: %q", out)
			}
			// In the background, made before, and by another that shares it.
			s.ok(t, "run", "-d", "--name", "second", "--network", "container:web", "busybox", "sleep", "1000")
			s.ok(t, append([]string{"create", "--name", "third", "--network", "container:second", "busybox"}, get...)...)
			if out := s.ok(t, "start", "-a", "third"); out != "hello" {
				t.Errorf("by another's: %q", out)
			}
			s.ok(t, "restart", "-t", "0", "second")
			if out := s.ok(t, append([]string{"exec", "second"}, get...)...); out != "hello" {
				t.Errorf("started again: %q", out)
			}
			shared := s.ok(t, "exec", "web", "readlink", "/proc/self/ns/net")
			s.ok(t, "stop", "-t", "0", "web")
			if out := s.ok(t, "exec", "second", "sh", "-c", "tail -n +3 /proc/net/dev | grep -vc lo:; readlink /proc/self/ns/net"); out != "0\n"+shared {
				t.Errorf("what is left of it: %q", out)
			}
			// What cannot be shared is said.
			for want, args := range map[string][]string{
				"non running container":     {"--network", "container:web"},
				"No such container: nobody": {"--network", "container:nobody"},
				"is not running":            {"--pid", "container:web"},
				"user namespace is another": {"--network", "container:other", "--pid", "container:second"},
			} {
				if r := s.run(t, append(append([]string{"run", "--rm"}, args...), "busybox", "true")...); r.code != 125 || !strings.Contains(r.stderr, want) {
					t.Errorf("%q: %v", args, r)
				}
			}
			if u.name == "nacre-test" {
				if r := s.run(t, "run", "--rm", "--isolation", "single", "--network", "container:other", "busybox", "true"); r.code != 125 || !strings.Contains(r.stderr, "it has other ids") {
					t.Errorf("%v", r)
				}
			}
		})
	}
}
