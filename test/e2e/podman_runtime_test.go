package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runtimeLink is a path by which nacre is an OCI runtime.
func runtimeLink(t *testing.T) string {
	t.Helper()
	link := filepath.Join(t.TempDir(), "nacre-runtime")
	if err := os.Symlink(nacre, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// podmanByUs is podman with nacre as its runtime, and an image of busybox.
func podmanByUs(t *testing.T) (pod []string, run func(args ...string) []string) {
	t.Helper()
	pod = podman(t)
	pod[len(pod)-1] = runtimeLink(t)
	tar := baseTar(t, "busybox")
	tool(t, with(pod, "import", "-q", tar, "busybox")...)
	t.Cleanup(func() { tool(t, with(pod, "rm", "--all", "--force", "--time", "0")...) })
	run = func(args ...string) []string {
		// Not all machines' root may have the limits that podman asks for by itself.
		return append(with(pod, "run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"), args...)
	}
	return pod, run
}

// TestPodmanRuntime: podman makes, looks at and ends containers by `nacre runtime`, with its own profile of system calls, its own
// way of limits, terminals and logs.
func TestPodmanRuntime(t *testing.T) {
	t.Parallel()
	pod, run := podmanByUs(t)
	none := []string{"--network", "none"}
	if got := tool(t, run("--rm", "--network", "none", "busybox", "sh", "-c", "echo hello; echo $(id -u) $0")...); got != "hello\n0 sh" {
		t.Errorf("run says %q", got)
	}
	t.Run("exit code", func(t *testing.T) {
		sh := strings.Join(run("--rm", "--network", "none", "busybox", "sh", "-c", "'exit 7'"), " ")
		if got := tool(t, "sh", "-c", sh+"; echo code $?"); got != "code 7" {
			t.Errorf("%q", got)
		}
		sh = strings.Join(run("--rm", "--network", "none", "busybox", "/nope"), " ")
		if got := tool(t, "sh", "-c", sh+" 2>&1; echo code $?"); !strings.Contains(got, "code 127") {
			t.Errorf("%q", got)
		}
	})
	t.Run("limits and rights", func(t *testing.T) {
		args := append(none, "--rm", "--memory", "64m", "--pids-limit", "50", "--user", "33", "busybox", "sh", "-c",
			"grep -E '^(Seccomp|CapEff):' /proc/self/status; cut -d : -f 2,3 /proc/self/cgroup; id -u; mkdir /x 2>&1 || true")
		got := tool(t, run(args...)...)
		for _, want := range []string{"Seccomp:\t2", "CapEff:\t0000000000000000", "libpod-", "\n33", "Permission denied"} {
			if !strings.Contains(got, want) {
				t.Errorf("%q lacks %q", got, want)
			}
		}
	})
	t.Run("terminal", func(t *testing.T) {
		// Podman ends with its input, and may then lose what was said just before.
		sh := strings.Join(run("--rm", "-it", "--network", "none", "busybox", "sh", "-c", "'tty; read line'"), " ")
		cmd := exec.Command("script", "-qec", sh, "/dev/null")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		seen := bufio.NewScanner(out)
		for seen.Scan() && !strings.Contains(seen.Text(), "/dev/pts/0") {
		}
		io.WriteString(in, "end\n")
		if seen.Err() != nil || !strings.Contains(seen.Text(), "/dev/pts/0") {
			t.Errorf("%q, %v", seen.Text(), seen.Err())
		}
		io.Copy(io.Discard, out)
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("privileged", func(t *testing.T) {
		if got := tool(t, run("--rm", "--network", "none", "--privileged", "busybox", "ls", "-l", "/dev/ptmx")...); !strings.HasSuffix(got, "pts/ptmx") {
			t.Errorf("%q", got)
		}
	})
	t.Run("network", func(t *testing.T) {
		if got := tool(t, run("--rm", "busybox", "ip", "-4", "addr", "show", "eth0")...); !strings.Contains(got, "inet 10.") {
			t.Errorf("%q", got)
		}
	})
	t.Run("life", func(t *testing.T) { podmanLife(t, pod, run) })
	if left := tool(t, with(pod, "ps", "-aq")...); left != "" {
		t.Errorf("left: %s", left)
	}
}

// podmanLife is one container's, from its making to its removal.
func podmanLife(t *testing.T, pod []string, run func(...string) []string) {
	on := func(args ...string) string { return tool(t, with(pod, args...)...) }
	is := func(want string) {
		t.Helper()
		if got := on("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web"); got != want {
			t.Errorf("it is %q, want %q", got, want)
		}
	}
	// What it starts besides is to end with it.
	tool(t, run("-d", "--name", "web", "--network", "none", "busybox", "sh", "-c",
		`trap "echo bye; exit 3" TERM; sleep 1000 & echo up; while :; do sleep 0.1; done`)...)
	tool(t, append([]string{"sh", "-c", `until "$@" | grep -q up; do sleep 0.05; done`, "sh"}, with(pod, "logs", "web")...)...)
	is("running 0")
	if got := on("exec", "-u", "33", "web", "sh", "-c", "id -u; cat /proc/1/comm"); got != "33\nsh" {
		t.Errorf("exec says %q", got)
	}
	sh := strings.Join(with(pod, "exec", "web", "/nope"), " ")
	if got := tool(t, "sh", "-c", sh+" 2>&1; echo code $?"); !strings.Contains(got, "code 127") {
		t.Errorf("exec says %q", got)
	}
	if got := on("top", "web", "args"); !strings.Contains(got, "sleep 1000") {
		t.Errorf("top says %q", got)
	}
	on("pause", "web")
	is("paused 0")
	on("unpause", "web")
	is("running 0")
	var seen []struct{ State struct{ Pid int } }
	if err := json.Unmarshal([]byte(on("inspect", "web")), &seen); err != nil || len(seen) != 1 || seen[0].State.Pid == 0 {
		t.Errorf("inspect: %v, %v", seen, err)
	}
	on("stop", "-t", "20", "web")
	is("exited 3")
	if got := on("logs", "web"); got != "up\nbye" {
		t.Errorf("logs are %q", got)
	}
	on("start", "web")
	is("running 0")
	on("kill", "web")
	if got := on("wait", "web"); got != "137" {
		t.Errorf("wait says %q", got)
	}
	on("rm", "web")
	if found := tool(t, "sh", "-c", "ls /run/nacre/runtime /sys/fs/cgroup/*/libpod_parent 2>/dev/null | grep web || true"); found != "" {
		t.Errorf("left: %s", found)
	}
}

// TestBuildahRuntime: buildah runs its steps by `nacre runtime`.
func TestBuildahRuntime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	build := []string{"buildah", "--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}
	name := tool(t, with(build, "from", "scratch")...)
	tool(t, with(build, "add", "-q", name, baseTar(t, "busybox"), "/")...)
	run := with(build, "run", "--isolation", "oci", "--runtime", runtimeLink(t), name, "--")
	if got := tool(t, with(run, "sh", "-c", "mkdir /made && echo hello $(id -u)")...); got != "hello 0" {
		t.Errorf("it says %q", got)
	}
	if got := tool(t, with(run, "ls", "-d", "/made")...); got != "/made" {
		t.Errorf("it says %q", got)
	}
	if got := tool(t, "sh", "-c", strings.Join(with(run, "sh", "-c", "'exit 9'"), " ")+" 2>/dev/null; echo code $?"); got != "code 9" {
		t.Errorf("it says %q", got)
	}
}
