package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"nacre/internal/network/netns"
	"nacre/internal/network/nettest"
	"nacre/internal/network/port"
)

func TestMain(m *testing.M) { nettest.Main(m) }

// space makes sockets in a namespace.
type space struct{ ns *os.File }

func (s space) Socket(domain, kind int) (int, error) { return netns.Socket(s.ns, domain, kind) }

// container is a namespace with loopback up and an address of its own.
func container(t *testing.T) (*os.File, Target) {
	t.Helper()
	ns := nettest.New(t)
	nettest.In(t, ns, "ip", "link", "set", "lo", "up")
	nettest.In(t, ns, "ip", "addr", "add", "10.1.2.3/32", "dev", "lo")
	return ns, Target{space{ns}, []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("127.0.0.1")}}
}

// echo sends all back once all has come: half of the connection is closed by then.
func echo(c *net.TCPConn) {
	data, _ := io.ReadAll(c)
	c.Write(data)
}

// publish forwards what -p says, to a target.
func publish(t *testing.T, to Target, specs ...string) *Forwarder {
	t.Helper()
	f, err := listen(specs...)
	if err != nil {
		t.Fatal(err)
	}
	f.Start(to)
	t.Cleanup(f.Close)
	return f
}

func listen(specs ...string) (*Forwarder, error) {
	var ports []port.Port
	for _, s := range specs {
		list, err := port.ParsePublish(s)
		if err != nil {
			return nil, err
		}
		ports = append(ports, list...)
	}
	return Listen(ports)
}

func (f *Forwarder) address(i int) string {
	p := f.Ports()[i]
	return net.JoinHostPort(p.HostIP, fmt.Sprint(p.HostPort))
}

// exchange sends data, closes its half, and returns what comes back.
func exchange(address string, data []byte) ([]byte, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	go func() { c.Write(data); c.(*net.TCPConn).CloseWrite() }()
	return io.ReadAll(c)
}

func TestTCP(t *testing.T) {
	ns, to := container(t)
	nettest.Handle(t, ns, ":80", echo)
	f := publish(t, to, "80", "127.0.0.1::80", "[::1]:8080:80")
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for i, want := range []string{"0.0.0.0", "::", "127.0.0.1", "::1"} {
		if got := f.Ports()[i].HostIP; got != want {
			t.Errorf("port %d is at %s, want %s", i, got, want)
		}
		if got, err := exchange(f.address(i), data); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes came back, %v", f.address(i), len(got), err)
		}
	}
	if p := f.Ports(); p[0].HostPort != p[1].HostPort || p[0].HostPort == 0 {
		t.Errorf("not the same port at both kinds of addresses: %v", p)
	}
}

// TestAddresses has servers that listen on one of the container's addresses alone.
func TestAddresses(t *testing.T) {
	ns, to := container(t)
	for _, own := range []string{"10.1.2.3:80", "127.0.0.1:81"} {
		var seen string
		done := make(chan bool)
		nettest.Handle(t, ns, own, func(c *net.TCPConn) { seen = c.RemoteAddr().String(); close(done) })
		_, number, _ := net.SplitHostPort(own)
		f := publish(t, to, number)
		exchange(f.address(0), nil)
		<-done
		if host, _, _ := net.SplitHostPort(own); !strings.HasPrefix(seen, host+":") {
			t.Errorf("%s has seen %s", own, seen)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	_, to := container(t)
	f := publish(t, to, "80")
	if got, err := exchange(f.address(0), nil); err == nil {
		t.Errorf("a proper end, %q, though nobody listens", got)
	}
}

func TestTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	number := l.Addr().(*net.TCPAddr).Port
	_, err = listen("9", fmt.Sprintf("%d:80", number))
	var taken *TakenError
	want := fmt.Sprintf("Bind for 0.0.0.0:%d failed: port is already allocated", number)
	if !errors.As(err, &taken) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	// Of a range the next one is taken.
	f, err := listen(fmt.Sprintf("127.0.0.1:%d-%d:80", number, number+9))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if p := f.Ports()[0]; p.HostPort <= uint16(number) || p.HostPort > uint16(number+9) {
		t.Errorf("%v is not in the range", p)
	}
	if _, err := listen("192.0.2.77:80:80"); err == nil || !strings.Contains(err.Error(), "cannot assign") {
		t.Errorf("an address that is not ours: %v", err)
	}
}

// TestLoad has a thousand connections at once, all of which are there before any goes on, and
// looks that nothing is left of them.
func TestLoad(t *testing.T) {
	ns, to := container(t)
	const count = 1000
	var arrived sync.WaitGroup
	arrived.Add(count)
	goOn := make(chan bool)
	nettest.Handle(t, ns, ":80", func(c *net.TCPConn) {
		arrived.Done()
		<-goOn
		echo(c)
	})
	f, err := listen("127.0.0.1::80")
	if err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	f.Start(to)
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() {
			data := fmt.Append(nil, "client ", i)
			if got, err := exchange(f.address(0), data); err != nil || !bytes.Equal(got, data) {
				t.Errorf("client %d: %q, %v", i, got, err)
			}
		})
	}
	arrived.Wait()
	close(goOn)
	wg.Wait()
	f.Close()
	settled(t, before)
}

// descriptors counts those of this process that are sockets.
func descriptors(t *testing.T) (n int) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if to, _ := os.Readlink("/proc/self/fd/" + f.Name()); strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// settled waits until there are no more sockets than before.
func settled(t *testing.T, before int) {
	t.Helper()
	now := descriptors(t)
	for end := time.Now().Add(20 * time.Second); now > before && time.Now().Before(end); now = descriptors(t) {
		time.Sleep(time.Millisecond) // servers close theirs in their own time
	}
	if now > before {
		t.Errorf("%d sockets before, %d after", before, now)
	}
}

// TestSlowReader has one who does not read for a while, and others who are not held up by that.
func TestSlowReader(t *testing.T) {
	ns, to := container(t)
	data := bytes.Repeat([]byte("x"), 32<<20)
	nettest.Handle(t, ns, ":80", func(c *net.TCPConn) { c.Write(data) })
	f := publish(t, to, "127.0.0.1::80")
	slow, err := net.Dial("tcp", f.address(0))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if got, err := exchange(f.address(0), nil); err != nil || len(got) != len(data) {
		t.Errorf("the fast one: %d bytes, %v", len(got), err)
	}
	if n, err := io.Copy(io.Discard, slow); err != nil || n != int64(len(data)) {
		t.Errorf("the slow one: %d bytes, %v", n, err)
	}
}

// TestGone closes the forwarder, and has a server break off: clients notice.
func TestGone(t *testing.T) {
	ns, to := container(t)
	begun := make(chan bool, 1)
	nettest.Handle(t, ns, ":80", func(c *net.TCPConn) {
		c.Write([]byte("hello"))
		begun <- true
		io.Copy(io.Discard, c)
	})
	nettest.Handle(t, ns, ":81", func(c *net.TCPConn) { c.SetLinger(0) })
	before := descriptors(t)
	f := publish(t, to, "127.0.0.1::80", "127.0.0.1::81")
	if _, err := exchange(f.address(1), nil); err == nil {
		t.Error("the server broke off, and the client saw a proper end")
	}
	c, err := net.Dial("tcp", f.address(0))
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	f.Close()
	if _, err := io.ReadAll(c); err == nil {
		t.Error("a proper end")
	}
	c.Close()
	if _, err := net.Dial("tcp", f.address(0)); err == nil {
		t.Error("the port is still open")
	}
	settled(t, before)
}

// udpEcho sends each datagram back with who sent it.
func udpEcho(t *testing.T, ns *os.File, address string) {
	t.Helper()
	var c net.PacketConn
	err := netns.Do(ns, func() (err error) { c, err = net.ListenPacket("udp", address); return err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, udpMaxPacket)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			c.WriteTo(fmt.Appendf(nil, "%s %s", buf[:n], from), from)
		}
	}()
}

func TestUDP(t *testing.T) {
	ns, to := container(t)
	udpEcho(t, ns, ":53")
	f := publish(t, to, "53/udp")
	for _, server := range []string{"127.0.0.1", "127.0.0.5", "::1"} { // the answer has to come from there
		seen := map[string]bool{}
		for i := range 3 {
			c, err := net.Dial("udp", net.JoinHostPort(server, fmt.Sprint(f.Ports()[0].HostPort)))
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(c, "q%d", i)
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			text, from, _ := strings.Cut(string(buf[:n]), " ")
			if err != nil || text != fmt.Sprintf("q%d", i) || !strings.HasPrefix(from, "10.1.2.3:") || seen[from] {
				t.Errorf("%s: %q from %q, %v", server, text, from, err)
			}
			seen[from] = true
			c.Close()
		}
	}
}

// TestUDPForgets counts clients: there are no more than the limit, and the silent are forgotten.
func TestUDPForgets(t *testing.T) {
	ns, to := container(t)
	udpEcho(t, ns, ":53")
	before := descriptors(t)
	p, err := listenUDP("udp4", netip.MustParseAddrPort("127.0.0.1:0"), 53)
	if err != nil {
		t.Fatal(err)
	}
	p.idle, p.max = 50*time.Millisecond, 2
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() { p.serve(ctx, to); close(done) }()
	answered := 0
	var open []net.Conn
	for range 4 {
		c, err := net.Dial("udp", p.conn.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		c.Write([]byte("q"))
		p.mu.Lock()
		if len(p.clients) > p.max {
			t.Errorf("%d clients", len(p.clients))
		}
		p.mu.Unlock()
	}
	for _, c := range open {
		c.SetDeadline(time.Now().Add(time.Second))
		for range 200 { // until there is room
			c.Write([]byte("q"))
			c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if _, err := c.Read(make([]byte, 100)); err == nil {
				answered++
				break
			}
		}
		c.Close()
	}
	if answered != 4 {
		t.Errorf("%d of 4 were answered in the end", answered)
	}
	cancel()
	p.conn.Close()
	<-done
	settled(t, before)
}

// TestUDPLate has a program that is not there yet: the client's next datagram reaches it.
func TestUDPLate(t *testing.T) {
	ns, to := container(t)
	f := publish(t, to, "127.0.0.1::53/udp")
	c, err := net.Dial("udp", f.address(0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("lost"))
	udpEcho(t, ns, ":53")
	for range 100 {
		c.Write([]byte("q"))
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, _ := c.Read(make([]byte, 100)); n > 0 {
			return
		}
	}
	t.Error("no answer")
}
