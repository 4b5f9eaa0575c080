package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestChrootEscape: a step by chroot is root of the container around it, and finds no way to its files, nor into nacre, which has more
// capabilities than it; it may send signals. With all of them (--security=insecure) it gets out.
func TestChrootEscape(t *testing.T) {
	t.Parallel()
	for name, prefix := range map[string][]string{
		"default":         nil, // a bounding set that cannot be made smaller gives root all of it with each program
		"without SETPCAP": {"setpriv", "--bounding-set", "-setpcap"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			escapeChroot(t, prefix...)
		})
	}
}

func escapeChroot(t *testing.T, prefix ...string) {
	program, err := escapeProgram()
	if err != nil {
		t.Fatal(err)
	}
	s, home := newContained(t, prefix...)
	s.importBase(t, "busybox")
	dir := filepath.Join(home, "ctx")
	writeAll(t, filepath.Join(home, "canary"), []byte("escape-secret\n"))
	tool(t, "sh", "-c", `mkdir "$1" && cp "$0" "$1"/escape && chmod 755 "$1"/escape`, program, dir)
	closed := []string{
		"secret", "working directory", "chroot", "ptrace", "read its memory", "take its file", "setns by pidfd", "open_by_handle_at",
		"disk", "memory device", "kernel log device", "fuse device", "tun device", "loop control device",
		"mount tmpfs", "mount proc", "bind mount", "fsopen", "open_tree", "pivot_root", "mount binfmt_misc", "cgroup release agent",
		"unshare user", "unshare mount", "unshare network", "clone user", "clone3 user", "32-bit mount", "32-bit unshare user",
		"bpf", "init_module", "kexec_load", "reboot", "swapon", "adjtimex", "syslog", "perf_event_open", "io_uring_setup", "userfaultfd", "keyctl", "add_key",
	}
	try := func(flags string, names []string) string {
		t.Helper()
		args := ""
		for _, n := range names {
			args += fmt.Sprintf(" '%s'", n)
		}
		writeAll(t, filepath.Join(dir, "Dockerfile"), []byte("FROM busybox AS made\nCOPY escape /escape\nRUN "+flags+" ESCAPE_DISK='8 0' ESCAPE_HANDLE='1 0000000000000000' ESCAPE_PID=$PPID ESCAPE_SECRET="+home+"/canary "+
			"/escape try"+args+" >/outcomes\nFROM scratch\nCOPY --from=made /outcomes /\n"))
		s.ok(t, "build", "-q", "--no-cache", "--allow", "security.insecure", "-o", "type=local,dest="+home+"/out", dir)
		return tool(t, "cat", home+"/out/outcomes")
	}
	noneThrough(t, try("", closed)+"\n", closed...)
	for flags, names := range map[string][]string{"": {"signal"}, "--security=insecure": {"ptrace", "chroot"}} {
		for name, what := range outcomes(t, try(flags, names)+"\n") {
			if !strings.HasPrefix(what, "through: ") {
				t.Errorf("%s would not be seen: %s", name, what)
			}
		}
	}
}
