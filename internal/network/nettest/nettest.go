// Package nettest runs a package's tests in a network namespace that plays the host, so
// that what they do to bridges, routes and rules is seen by nobody else.
package nettest

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"nacre/internal/network/netns"
)

// MainWithout is Main, without the tests of a pattern where probe fails, which is said. The others show
// what becomes of it there.
func MainWithout(m *testing.M, pattern string, probe func() error) {
	if os.Getenv(inside) != "" {
		if err := probe(); err != nil {
			fmt.Fprintf(os.Stderr, "tests %s are left out on this machine: %v\n", pattern, err)
			flag.Parse()
			flag.Set("test.skip", pattern)
		}
	}
	Main(m)
}

const inside = "NACRE_NETTEST"

// Main is a TestMain: it starts the test program again in namespaces of its own, with what
// m runs. Name is how the copy may tell that it is one.
func Main(m *testing.M) {
	if os.Getenv(inside) != "" {
		Must("ip", "link", "set", "lo", "up")
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "tests need the right to make a network namespace:", err)
		}
		os.Exit(1)
	}
	os.Exit(0)
}

// Must runs a program and panics if it fails: for TestMain and the like.
func Must(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		panic(fmt.Sprintf("%s: %v: %s", strings.Join(argv, " "), err, out))
	}
	return strings.TrimSpace(string(out))
}

// Run runs a program and returns what it prints.
func Run(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// In runs a program in a namespace and returns what it prints.
func In(t testing.TB, ns *os.File, argv ...string) string {
	t.Helper()
	out, err := TryIn(ns, argv...)
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
	return out
}

// TryIn is In for what may fail.
func TryIn(ns *os.File, argv ...string) (out string, err error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	var b strings.Builder
	cmd.Stdout, cmd.Stderr = &b, &b
	// A process begins in its parent thread's namespace.
	if err := netns.Do(ns, cmd.Start); err != nil {
		return "", err
	}
	err = cmd.Wait()
	return strings.TrimSpace(b.String()), err
}

// Ask connects by TCP from a namespace and returns what the server says.
func Ask(ns *os.File, address string, patience time.Duration) (string, error) {
	var c net.Conn
	err := netns.Do(ns, func() (err error) { c, err = net.DialTimeout("tcp", address, patience); return err })
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	data, err := io.ReadAll(c)
	return strings.TrimSpace(string(data)), err
}

// Serve says who asks, after some text, to all who connect to an address in a namespace.
func Serve(t testing.TB, ns *os.File, address, says string) {
	t.Helper()
	Handle(t, ns, address, func(c *net.TCPConn) {
		fmt.Fprintln(c, says+c.RemoteAddr().(*net.TCPAddr).IP.String())
	})
}

// Handle has each connection to an address in a namespace handled, beside the others, and closed.
func Handle(t testing.TB, ns *os.File, address string, handle func(*net.TCPConn)) {
	t.Helper()
	var l net.Listener
	err := netns.Do(ns, func() (err error) { l, err = net.Listen("tcp", address); return err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); handle(c.(*net.TCPConn)) }()
		}
	}()
}

// Host is the namespace that plays the host.
func Host(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// New is a namespace that goes with the test.
func New(t testing.TB) *os.File {
	t.Helper()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// World connects the host with another namespace, whose address is 203.0.113.1; the host's is
// 203.0.113.2, and its default route goes there.
func World(t testing.TB) *os.File {
	t.Helper()
	ns := New(t)
	Run(t, "ip", "link", "add", "uplink", "mtu", "1400", "type", "veth", "peer", "name", "world", "mtu", "1400")
	t.Cleanup(func() { Run(t, "ip", "link", "del", "uplink") })
	Run(t, "ip", "link", "set", "world", "netns", netns.Path(ns))
	Run(t, "ip", "addr", "add", "203.0.113.2/24", "dev", "uplink")
	Run(t, "ip", "link", "set", "uplink", "up")
	Run(t, "ip", "route", "add", "default", "via", "203.0.113.1")
	for _, line := range []string{"link set lo up", "addr add 203.0.113.1/24 dev world", "link set world up"} {
		In(t, ns, append([]string{"ip"}, strings.Fields(line)...)...)
	}
	return ns
}
