package network

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nacre/internal/network/bridge"
	"nacre/internal/network/netns"
	"nacre/internal/network/nettest"
)

// TestMain leaves out, where the kernel has no bridges or cannot translate addresses, what is about those:
// TestPoolFallsBack and the rest of TestWays show what there is in their place.
func TestMain(m *testing.M) {
	nettest.MainWithout(m, "TestWays/bridge|TestPool$|TestOwnUser", func() error {
		ns, err := netns.New()
		if err != nil {
			return err
		}
		defer ns.Close()
		dir, err := os.MkdirTemp("", "probe")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		l, err := bridge.New(dir).Reserve(context.Background(), bridge.Want{})
		if err != nil {
			return err
		}
		defer l.Close()
		return l.Connect(ns)
	})
}

func noGuard(*os.Process) func() { return func() {} }

// fakeHost starts with a host that has no bridge yet.
func fakeHost(t *testing.T) {
	t.Helper()
	old := StateDir
	StateDir = filepath.Join(t.TempDir(), "network")
	clean := func() { exec.Command("ip", "link", "del", "nacre0").Run() }
	clean()
	t.Cleanup(func() { StateDir = old; clean() })
}

// noBridge is a host where none can be made.
func noBridge(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(StateDir, nil, 0o600); err != nil { // in place of a directory
		t.Fatal(err)
	}
}

func open(t *testing.T, a Ask) *Network {
	t.Helper()
	a.Guard = noGuard
	n, err := Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func file(n *Network, path string) string {
	for _, f := range n.Files {
		if f.Path == path {
			return string(f.Data)
		}
	}
	return ""
}

// running counts the processes of a name on this host, or whatever plays it.
func running(name string) (count int) {
	host, _ := os.Readlink("/proc/self/ns/net")
	name = strings.Replace(name, "pasta", "pass", 1) // it is the program passt under another name
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, f := range comms {
		comm, _ := os.ReadFile(f)
		ns, _ := os.Readlink(filepath.Join(filepath.Dir(f), "ns/net"))
		if strings.HasPrefix(string(comm), name) && ns == host {
			count++
		}
	}
	return count
}

const soon = 20 * time.Second

// TestWays goes through the ways out there are, each time with published ports.
func TestWays(t *testing.T) {
	ports := func(spec string) []Port {
		p, err := ParsePublish(spec)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct {
		way, path string
		bridge    bool
		outward   string // what the world sees
		source    string // what a server inside sees of who came to a published port
	}{
		{WayBridge, "", true, "203.0.113.2", "10.219.0.2"},
		{"pasta", "pasta", false, "203.0.113.2", "203.0.113.2"},
		{"slirp4netns", "slirp4netns", false, "203.0.113.2", "10.0.2.100"},
		{WayNone, "", false, "", "192.0.0.8"},
	} {
		t.Run(c.way, func(t *testing.T) {
			fakeHost(t)
			world := nettest.World(t)
			nettest.Serve(t, world, ":80", "")
			if !c.bridge {
				noBridge(t)
				dir := t.TempDir()
				if c.path != "" {
					program, err := exec.LookPath(c.path)
					if err != nil {
						t.Fatal(err)
					}
					os.Symlink(program, filepath.Join(dir, c.path))
				}
				t.Setenv("PATH", dir+":/usr/bin/nothing")
			}
			n := open(t, Ask{Options: Options{Ports: ports("127.0.0.1::80"), ExtraHosts: []string{"gw:host-gateway"}}, Hostname: "web", Domainname: "example.org"})
			t.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
			if n.Info.Way != c.way || n.path == "" {
				t.Fatalf("%+v, %q", n.Info, n.Notes)
			}
			got, err := nettest.Ask(n.ns, "203.0.113.1:80", soon)
			if c.outward == "" {
				if err == nil || len(n.Notes) != 1 || !strings.Contains(n.Notes[0], "install pasta (package passt)") {
					t.Errorf("a way out, %q, or the wrong notes %q", got, n.Notes)
				}
			} else if err != nil || got != c.outward {
				t.Errorf("outward: %q, %v", got, err)
			}
			nettest.Serve(t, n.ns, ":80", "")
			published := fmt.Sprint("127.0.0.1:", n.Info.Ports[0].HostPort)
			if got, err := nettest.Ask(nettest.Host(t), published, soon); err != nil || got != c.source {
				t.Errorf("published: %q, %v, want %s", got, err, c.source)
			}
			hosts := file(n, "/etc/hosts")
			if !strings.Contains(hosts, n.Info.IP+"\tweb.example.org web\n") {
				t.Errorf("%+v\n%s", n.Info, hosts)
			}
			if c.bridge && !strings.Contains(hosts, "10.219.0.1\tgw\n") {
				t.Error(hosts)
			}
			before := running(c.way)
			n.Close()
			if c, err := net.Dial("tcp", published); err == nil {
				c.Close()
				t.Error("the port is still open")
			}
			if after := running(c.way); before == 0 && c.path != "" || after > 0 {
				t.Errorf("%d %s while it was open, %d after", before, c.way, after)
			}
		})
	}
}

// TestOwnUser connects a namespace that somebody else made.
func TestOwnUser(t *testing.T) {
	fakeHost(t)
	n := open(t, Ask{OwnUser: true})
	if n.Created == nil || n.path != "" || n.Info.IP == "" {
		t.Fatalf("%+v", n)
	}
	sleep := exec.Command("unshare", "-n", "sh", "-c", "echo; exec sleep 1000")
	out, _ := sleep.StdoutPipe()
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { sleep.Process.Kill(); sleep.Wait() }()
	out.Read(make([]byte, 1))
	if err := n.Created(t.Context(), sleep.Process.Pid); err != nil {
		t.Fatal(err)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", sleep.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if out := nettest.In(t, ns, "ip", "addr", "show", "eth0"); !strings.Contains(out, n.Info.IP) {
		t.Errorf("%s is not in\n%s", n.Info.IP, out)
	}
}

func TestHostAndNone(t *testing.T) {
	for _, mode := range []string{ModeHost, ModeNone} {
		n := open(t, Ask{Options: Options{Mode: mode, Ports: []Port{{ContainerPort: 80, Proto: "tcp"}}}, Hostname: "x"})
		if n.path != "" || n.Info.Ports != nil || len(n.Notes) != 1 || !strings.Contains(n.Notes[0], "discarded") {
			t.Errorf("%s: %+v %q", mode, n.Info, n.Notes)
		}
	}
}

// TestShare joins another's namespace and has its files.
func TestShare(t *testing.T) {
	fakeHost(t)
	one := open(t, Ask{Hostname: "one"})
	join := func(_ context.Context, name string) (Joined, error) {
		if name != "one" {
			return Joined{}, fmt.Errorf("no such container: %s", name)
		}
		return Joined{Path: one.path, Files: one.Files}, nil
	}
	two := open(t, Ask{Options: Options{Mode: "container:one"}, Hostname: "two", Join: join})
	nettest.Serve(t, one.ns, "127.0.0.1:80", "")
	if got, err := nettest.Ask(two.ns, "127.0.0.1:80", soon); err != nil || got != "127.0.0.1" {
		t.Errorf("%q, %v", got, err)
	}
	if hosts := file(two, "/etc/hosts"); !strings.Contains(hosts, "\tone\n") {
		t.Error(hosts)
	}
	if _, err := Open(t.Context(), Ask{Options: Options{Mode: "container:three"}, Join: join}); err == nil || !strings.Contains(err.Error(), "no such container: three") {
		t.Error(err)
	}
}
