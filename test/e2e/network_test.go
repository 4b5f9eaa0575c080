package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// answers tells whether a server of HTTP at an address says hello.
func answers(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	buf := make([]byte, 4096)
	text := ""
	for {
		n, err := c.Read(buf)
		text += string(buf[:n])
		if err != nil {
			return strings.Contains(text, "hello")
		}
	}
}

// until waits for something that takes its time.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	if !within(patience, is) {
		t.Fatalf("not within %v: %s", patience, what)
	}
}

// patience is how long a test waits for what has to come: a machine that many work on may take its time.
const patience = 2 * time.Minute

// within waits for something and tells whether it came.
func within(limit time.Duration, is func() bool) bool {
	for end := time.Now().Add(limit); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// got is what a container got of networks.
func (s *store) got(t *testing.T, name string) (ip string, port string) {
	t.Helper()
	out := s.ok(t, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", name)
	return strings.TrimSpace(out), strings.TrimSpace(s.ok(t, "port", name, "80"))
}

// monitors are the processes that watch containers, by the containers' folders.
func (s *store) monitors(t *testing.T) (pids []int) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(s.root, "containers/*/state.json"))
	for _, f := range files {
		var st struct{ Monitor int }
		if data, err := os.ReadFile(f); err == nil && json.Unmarshal(data, &st) == nil && st.Monitor > 0 {
			pids = append(pids, st.Monitor)
		}
	}
	return pids
}

// TestManyNetworks starts 50 containers at once, each with a port, and kills all that watch them.
func TestManyNetworks(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	const count = 50
	t.Cleanup(func() {
		for _, name := range strings.Fields(s.run(t, "ps", "-aq").stdout) {
			s.run(t, "rm", "-f", name)
		}
	})
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() {
			s.ok(t, "run", "-d", "--name", fmt.Sprint("web", i), "-p", "127.0.0.1::80", "busybox",
				"sh", "-c", "mkdir /www; echo hello >/www/index.html; exec httpd -f -p 80 -h /www")
		})
	}
	wg.Wait()
	ips, ports := map[string]bool{}, map[string]bool{}
	for i := range count {
		ip, port := s.got(t, fmt.Sprint("web", i))
		ips[ip], ports[port] = true, true
		until(t, port+" answers", func() bool { return answers(port) })
	}
	_, bridged := net.InterfaceByName("nacre0")
	if len(ports) != count || bridged == nil && len(ips) != count {
		t.Errorf("%d ports and %d addresses for %d containers", len(ports), len(ips), count)
	}
	if bridged == nil {
		one, _ := s.got(t, "web1")
		if out := s.ok(t, "run", "--rm", "busybox", "sh", "-c", `printf 'GET / HTTP/1.0\r\n\r\n' | nc `+one+" 80"); !strings.Contains(out, "hello") {
			t.Errorf("a neighbour says %q", out)
		}
	}
	for _, pid := range s.monitors(t) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	for port := range ports {
		until(t, port+" is closed", func() bool { return !answers(port) })
	}
	until(t, "all have ended", func() bool { return s.ok(t, "ps", "-q") == "" })
	if bridged == nil {
		until(t, "the devices are gone", func() bool { return len(devicesOf(t, ips)) == 0 })
	}
	s.ok(t, "container", "prune", "-f")
}

// devicesOf are the host's ends of the cables of addresses. Others may have got an address since: it
// is its device that has to be gone for that.
func devicesOf(t *testing.T, ips map[string]bool) (list []string) {
	t.Helper()
	for ip := range ips {
		name := fmt.Sprintf("nv%x", []byte(net.ParseIP(ip).To4()))
		leased, _ := os.ReadFile("/run/nacre/network/leases/" + ip)
		if _, err := net.InterfaceByName(name); err == nil && strings.Contains(string(leased), `"web`) {
			list = append(list, name)
		}
	}
	return list
}
