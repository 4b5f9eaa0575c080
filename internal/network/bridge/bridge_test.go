package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nacre/internal/network/netns"
	"nacre/internal/network/nettest"
)

// patience is how long what should work is waited for.
const patience = 20 * time.Second

// holdEnv, set to a directory, makes the test program connect a namespace and wait to be killed.
const holdEnv = "NACRE_BRIDGE_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdEnv); dir != "" {
		hold(dir)
	}
	nettest.MainWithout(m, "Test[^UR]|TestRepair", func() error { // TestUnavailable and TestRanges stay
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
		l, err := connect(context.Background(), New(dir), ns, Want{})
		if err == nil {
			l.Close()
		}
		return err
	})
}

// connect connects a namespace at once.
func connect(ctx context.Context, b *Bridge, ns *os.File, w Want) (*Link, error) {
	l, err := b.Reserve(ctx, w)
	if err != nil {
		return nil, err
	}
	if err := l.Connect(ns); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func hold(dir string) {
	ns, err := netns.New()
	if err != nil {
		panic(err)
	}
	l, err := connect(context.Background(), New(dir), ns, Want{Names: []string{"held"}})
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr.Addr())
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// fresh takes away what is shared, as a machine that has just started.
func fresh(t *testing.T) *Bridge {
	t.Helper()
	clean := func() {
		exec.Command("ip", "link", "del", Name).Run()
		exec.Command("nft", "delete", "table", "ip", table).Run()
	}
	clean()
	t.Cleanup(clean)
	return New(filepath.Join(t.TempDir(), "net"))
}

func attach(t *testing.T, b *Bridge, w Want) (*Link, *os.File) {
	t.Helper()
	ns := nettest.New(t)
	l, err := connect(t.Context(), b, ns, w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, ns
}

func TestNeighbours(t *testing.T) {
	b := fresh(t)
	one, ns1 := attach(t, b, Want{Names: []string{"one", "web"}})
	two, ns2 := attach(t, b, Want{})
	if one.Addr == two.Addr || one.Gateway != two.Gateway || one.Addr.Bits() != rangeBits {
		t.Fatalf("addresses %v and %v", one.Addr, two.Addr)
	}
	nettest.Serve(t, ns1, ":80", "")
	if got, err := nettest.Ask(ns2, one.Addr.Addr().String()+":80", patience); err != nil || got != two.Addr.Addr().String() {
		t.Errorf("%q, %v: the server should have seen %v", got, err, two.Addr)
	}
	if got := b.lookup("WEB"); len(got) != 1 || got[0] != one.Addr.Addr() {
		t.Errorf("web is %v, want %v", got, one.Addr)
	}
	one.Close()
	if got := b.lookup("web"); got != nil {
		t.Errorf("web is %v though it is gone", got)
	}
}

// TestWayOut reaches a server in the world, which sees the host's address.
func TestWayOut(t *testing.T) {
	b := fresh(t)
	world := nettest.World(t)
	nettest.Serve(t, world, ":80", "")
	os.WriteFile(forwardSysctl, []byte("0"), 0o644)
	l, ns := attach(t, b, Want{})
	if len(l.Notes) != 1 || !strings.Contains(l.Notes[0], "ip_forward") {
		t.Errorf("notes %q", l.Notes)
	}
	if got, err := nettest.Ask(ns, "203.0.113.1:80", patience); err != nil || got != "203.0.113.2" {
		t.Errorf("%q, %v", got, err)
	}
	if out := nettest.In(t, ns, "ip", "-o", "link", "show", Device); !strings.Contains(out, "mtu 1400") {
		t.Errorf("not the MTU of the way out: %s", out)
	}
	// The world knows a way to the container and is not let in.
	nettest.Serve(t, ns, ":81", "")
	nettest.In(t, world, "ip", "route", "add", l.Addr.Masked().String(), "via", "203.0.113.2")
	if out, err := nettest.Ask(world, l.Addr.Addr().String()+":81", time.Second); err == nil {
		t.Errorf("from outside: %q", out)
	}
	nettest.Run(t, "nft", "flush", "chain", "ip", table, "forward") // the rule was what kept it out
	if out, err := nettest.Ask(world, l.Addr.Addr().String()+":81", patience); err != nil || out != "203.0.113.1" {
		t.Errorf("without the rule: %q, %v", out, err)
	}
}

// TestFirewall has the chain of iptables drop by default, as docker and ufw have it.
func TestFirewall(t *testing.T) {
	b := fresh(t)
	world := nettest.World(t)
	nettest.Serve(t, world, ":80", "")
	nettest.Run(t, "iptables", "-P", "FORWARD", "DROP")
	t.Cleanup(func() {
		nettest.Run(t, "iptables", "-F", "FORWARD")
		nettest.Run(t, "iptables", "-P", "FORWARD", "ACCEPT")
	})
	for range 2 {
		_, ns := attach(t, b, Want{})
		if got, err := nettest.Ask(ns, "203.0.113.1:80", patience); err != nil || got != "203.0.113.2" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if out := nettest.Run(t, "iptables", "-S", "FORWARD"); strings.Count(out, "nacre0") != 2 {
		t.Errorf("not once each:\n%s", out)
	}
}

// TestIptables goes without nftables.
func TestIptables(t *testing.T) {
	b := fresh(t)
	world := nettest.World(t)
	nettest.Serve(t, world, ":80", "")
	_, ns := attach(t, b, Want{})
	nettest.Run(t, "nft", "delete", "table", "ip", table)
	t.Cleanup(func() { nettest.Run(t, "iptables", "-F"); nettest.Run(t, "iptables", "-t", "nat", "-F") })
	l, _ := attach(t, b, Want{}) // makes the table again
	nettest.Run(t, "nft", "delete", "table", "ip", table)
	if err := iptablesAll(t.Context(), l.Addr.Masked()); err != nil {
		t.Fatal(err)
	}
	if got, err := nettest.Ask(ns, "203.0.113.1:80", patience); err != nil || got != "203.0.113.2" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestRepair has somebody remove what is shared, one after the other.
func TestRepair(t *testing.T) {
	b := fresh(t)
	world := nettest.World(t)
	nettest.Serve(t, world, ":80", "")
	for _, harm := range []string{
		"true", "ip link del " + Name, "nft delete table ip " + table, "nft flush chain ip nacre postrouting", "ip link set nacre0 down", "ip addr flush dev nacre0",
	} {
		nettest.Run(t, strings.Fields(harm)...)
		_, ns := attach(t, b, Want{})
		if got, err := nettest.Ask(ns, "203.0.113.1:80", patience); err != nil || got != "203.0.113.2" {
			t.Errorf("after %s: %q, %v", harm, got, err)
		}
	}
}

func TestAsked(t *testing.T) {
	b := fresh(t)
	first, _ := attach(t, b, Want{})
	want := first.Addr.Addr().Next().Next()
	mac, _ := net.ParseMAC("02:00:00:00:00:77")
	l, ns := attach(t, b, Want{IP: want, MAC: mac})
	if out := nettest.In(t, ns, "ip", "addr", "show", Device); l.Addr.Addr() != want || !strings.Contains(out, want.String()) || !strings.Contains(out, mac.String()) {
		t.Errorf("%v\n%s", l.Addr, out)
	}
	for _, bad := range []netip.Addr{want, first.Gateway, first.Addr.Masked().Addr(), lastOf(first.Addr), netip.MustParseAddr("9.9.9.9")} {
		if _, err := connect(t.Context(), b, nettest.New(t), Want{IP: bad}); err == nil || errors.Is(err, ErrUnavailable) {
			t.Errorf("--ip %s: %v", bad, err)
		}
	}
}

// TestCollisions has the host use ranges already.
func TestCollisions(t *testing.T) {
	b := fresh(t)
	nettest.Run(t, "ip", "link", "add", "other", "type", "veth", "peer", "name", "another")
	t.Cleanup(func() { nettest.Run(t, "ip", "link", "del", "other") })
	nettest.Run(t, "ip", "link", "set", "other", "up")
	nettest.Run(t, "ip", "addr", "add", "10.219.3.1/16", "dev", "other")
	nettest.Run(t, "ip", "route", "add", "172.30.0.0/17", "dev", "other", "table", "7")
	l, _ := attach(t, b, Want{})
	if got := l.Addr.Masked().String(); got != "172.30.128.0/20" {
		t.Errorf("range %s", got)
	}
}

// TestKilled kills an owner: device and address are there for others.
func TestKilled(t *testing.T) {
	b := fresh(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), holdEnv+"="+b.dir)
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var text string
	fmt.Fscanln(out, &text)
	ip := netip.MustParseAddr(text)
	if got := b.lookup("held"); len(got) != 1 || got[0] != ip {
		t.Errorf("held is %v, want %v", got, ip)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if got := b.lookup("held"); got != nil {
		t.Errorf("held is still %v", got)
	}
	l, _ := attach(t, b, Want{IP: ip})
	if l.Addr.Addr() != ip {
		t.Errorf("got %v", l.Addr)
	}
}

func TestManyAtOnce(t *testing.T) {
	b := fresh(t)
	var mu sync.Mutex
	seen := map[netip.Addr]bool{}
	var links []*Link
	var wg sync.WaitGroup
	var spaces []*os.File
	for range 50 {
		ns := nettest.New(t)
		spaces = append(spaces, ns)
		wg.Go(func() {
			l, err := connect(t.Context(), b, ns, Want{})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if seen[l.Addr.Addr()] {
				t.Errorf("%v was given twice", l.Addr)
			}
			seen[l.Addr.Addr()] = true
			links = append(links, l)
		})
	}
	wg.Wait()
	for i, l := range links {
		l.Close()
		spaces[i].Close()
	}
	left := func() string { return nettest.Run(t, "ip", "-o", "link", "show", "master", Name) }
	for deadline := time.Now().Add(20 * time.Second); left() != "" && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond) // the kernel removes them in the background
	}
	if out := left(); out != "" {
		t.Errorf("left behind:\n%s", out)
	}
}

// TestUnavailable is a process that may not make a bridge.
func TestUnavailable(t *testing.T) {
	b := fresh(t)
	os.WriteFile(b.dir, nil, 0o600) // where a directory should be
	if _, err := connect(t.Context(), b, nettest.New(t), Want{}); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	b = fresh(t)
	nettest.Run(t, "ip", "link", "add", Name, "type", "veth", "peer", "name", "another")
	if _, err := connect(t.Context(), b, nettest.New(t), Want{}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "veth") {
		t.Error(err)
	}
}

func TestRanges(t *testing.T) {
	count := 0
	for r := range ranges {
		if r != r.Masked() || !r.Addr().IsPrivate() {
			t.Errorf("%v", r)
		}
		count++
	}
	if count != 1060 {
		t.Errorf("%d ranges", count)
	}
	if _, err := freeRange([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")}); err == nil {
		t.Error("all is in use, and no error")
	}
}
