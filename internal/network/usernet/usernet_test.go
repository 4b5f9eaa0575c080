package usernet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"nacre/internal/network/nettest"
)

// attachEnv makes the test program attach a namespace, as an ordinary user: to a process in a user
// namespace of its own, or where it names a path to that. It says what came of it, and waits.
const attachEnv = "NACRE_USERNET"

func TestMain(m *testing.M) {
	switch os.Getenv(attachEnv) {
	case "":
		nettest.Main(m)
	case "target":
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	default:
		attachMain()
	}
}

func attachMain() {
	target := exec.Command("/proc/self/exe")
	target.Env = []string{attachEnv + "=target"}
	target.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	in, _ := target.StdinPipe()
	if err := target.Start(); err != nil {
		fmt.Println("error", err)
		os.Exit(0)
	}
	p, err := Attach(context.Background(), Space{Pid: target.Process.Pid}, unguarded)
	if err != nil {
		fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", " "))
		os.Exit(0)
	}
	fmt.Println("ok", target.Process.Pid, p.cmd.Process.Pid, p.Name, p.DNS)
	io.Copy(io.Discard, os.Stdin)
	p.Close()
	in.Close()
	fmt.Println("closed")
	os.Exit(0)
}

func unguarded(*os.Process) func() { return func() {} }

// tun gives ordinary users the device for as long as the test runs: most machines do, and those that
// do not have it so for a reason that is none here, in a mount namespace of the tests' own.
func tun(t *testing.T) {
	t.Helper()
	nettest.Run(t, "mount", "--make-rprivate", "/")
	nettest.Run(t, "mount", "-t", "tmpfs", "tmpfs", "/dev/net")
	t.Cleanup(func() { nettest.Run(t, "umount", "-l", "/dev/net") })
	nettest.Run(t, "mknod", "-m", "666", "/dev/net/tun", "c", "10", "200")
}

// TestUser is an ordinary user with each of the programs, and without.
func TestUser(t *testing.T) {
	tun(t)
	world := nettest.World(t)
	nettest.Serve(t, world, ":80", "world ")
	nettest.Serve(t, nettest.Host(t), "127.0.0.1:80", "host ")
	for _, name := range []string{"pasta", "slirp4netns", ""} {
		t.Run("with "+name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = []string{attachEnv + "=1", "PATH=" + pathWith(t, name)}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}, Pdeathsig: syscall.SIGKILL}
			cmd.Stderr = os.Stderr
			in, _ := cmd.StdinPipe()
			out, _ := cmd.StdoutPipe()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			lines := bufio.NewScanner(out)
			lines.Scan()
			var target, helper int
			var used, dns string
			_, err := fmt.Sscan(lines.Text(), new(string), &target, &helper, &used, &dns)
			if name == "" {
				if !strings.Contains(lines.Text(), ErrNone.Error()) {
					t.Errorf("%q", lines.Text())
				}
				return
			}
			if err != nil || used != name {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", target))
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			if out, err := nettest.Ask(ns, "203.0.113.1:80", patience); out != "world 203.0.113.2" {
				t.Errorf("the world says %q, %v", out, err)
			}
			// The host's loopback is not reached by the gateway's address.
			for _, gateway := range []string{"203.0.113.1", "10.0.2.2"} {
				if out, _ := nettest.Ask(ns, gateway+":80", 5*time.Second); strings.HasPrefix(out, "host") {
					t.Errorf("%s leads to the host's loopback", gateway)
				}
			}
			in.Close()
			lines.Scan()
			if err := syscall.Kill(helper, 0); lines.Text() != "closed" || !errors.Is(err, syscall.ESRCH) {
				t.Errorf("%q; %s: %v", lines.Text(), name, err)
			}
			cmd.Wait()
		})
	}
}

// pathWith is a PATH that has one program, or none.
func pathWith(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "path")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	if name == "" {
		return dir
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err, "(packages passt and slirp4netns are needed)")
	}
	if err := os.Symlink(path, dir+"/"+name); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestRoot attaches a namespace that only a descriptor holds.
func TestRoot(t *testing.T) {
	world := nettest.World(t)
	nettest.Serve(t, world, ":80", "world ")
	ns := nettest.New(t)
	signal.Ignore(syscall.SIGPIPE) // as a process does that nobody may be reading from
	defer signal.Reset(syscall.SIGPIPE)
	for _, name := range []string{"pasta", "slirp4netns"} {
		p, err := programs()[slices.IndexFunc(programs(), func(p program) bool { return p.name == name })].start(t.Context(), name, Space{Namespace: ns}, unguarded)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := nettest.Ask(ns, "203.0.113.1:80", patience); out != "world 203.0.113.2" {
			t.Errorf("by %s the world says %q, %v", p.Name, out, err)
		}
		p.Close()
	}
}

// TestFails gives a namespace that is none.
func TestFails(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := Attach(t.Context(), Space{Namespace: null}, unguarded); err == nil || !strings.Contains(err.Error(), "slirp4netns: ") {
		t.Error(err)
	}
}
