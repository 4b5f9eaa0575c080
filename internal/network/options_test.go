package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	web := []Port{{ContainerPort: 80, Proto: "tcp"}}
	for _, c := range []struct {
		o    Options
		want string // of the error; empty: none
	}{
		{Options{}, ""},
		{Options{Mode: "bridge", IP: "10.0.0.2", MAC: "02:00:00:00:00:01"}, ""},
		{Options{Mode: "default", DNS: []string{"::1", "1.2.3.4"}, DNSSearch: []string{"."}, ExtraHosts: []string{"a:1.2.3.4"}}, ""},
		{Options{Mode: "host", ExtraHosts: []string{"a=::1"}}, ""},
		{Options{Mode: "container:x"}, ""},
		{Options{Mode: "container:"}, "want private"},
		{Options{Mode: "mine"}, "want private, host, none or container:NAME"},
		{Options{Mode: "container:x", Ports: web}, "port publishing and the container type network mode"},
		{Options{Mode: "container:x", PublishAll: true}, "port publishing"},
		{Options{Mode: "container:x", DNS: []string{"1.2.3.4"}}, "dns and the container type"},
		{Options{Mode: "container:x", ExtraHosts: []string{"a:1.2.3.4"}}, "custom host-to-IP"},
		{Options{Mode: "host", IP: "10.0.0.2"}, "not for --network host"},
		{Options{Mode: "none", MAC: "02:00:00:00:00:01"}, "not for --network none"},
		{Options{IP: "::1"}, "want an IPv4 address"},
		{Options{IP: "10.0.0"}, "want an IPv4 address"},
		{Options{MAC: "01:00:00:00:00:01"}, "of one device"},
		{Options{MAC: "x"}, "want six bytes"},
		{Options{DNS: []string{"dns.example"}}, "it is no IP address"},
		{Options{DNSSearch: []string{"a b"}}, "cannot be in a name"},
		{Options{DNSOptions: []string{"x\nnameserver 1.2.3.4"}}, "cannot be in a name"},
		{Options{DNSSearch: []string{""}}, "cannot be in a name"},
		{Options{Expose: []string{"x"}}, "exposed port"},
		{Options{ExtraHosts: []string{"a b:1.2.3.4"}}, "cannot be a name"},
	} {
		err := c.o.Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

// TestResolv has hosts whose resolvers can be reached from elsewhere, and such whose cannot.
func TestResolv(t *testing.T) {
	for _, c := range []struct{ file, behind, want string }{
		{"nameserver 10.0.0.1\nsearch a b\noptions ndots:2\n", "", "nameserver 10.0.0.1\nsearch a b\noptions ndots:2\n"},
		{"nameserver 127.0.0.53\noptions edns0\nsearch x\n", "nameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch y\n", "nameserver 10.0.0.1\nsearch y\n"},
		{"nameserver 127.0.0.1\nnameserver 10.0.0.2\n", "nameserver 10.0.0.1\n", "nameserver 10.0.0.2\n"},
		{"nameserver ::1\n", "", "nameserver ::1\n"},
		{"# nothing\ndomain d\nnameserver nonsense\n\n;x\n", "", "search d\n"},
		{"nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n", "", "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\n"},
	} {
		dir := t.TempDir()
		file, behind := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "behind")
		os.WriteFile(file, []byte(c.file), 0o644)
		if c.behind != "" {
			os.WriteFile(behind, []byte(c.behind), 0o644)
		}
		if got := string(readResolv(file, behind, true).Bytes()); got != c.want {
			t.Errorf("%q: %q, want %q", c.file, got, c.want)
		}
	}
	r := Resolv{Servers: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Search: []string{"s"}, Options: []string{"o"}}
	o := &Options{DNS: []string{"8.8.8.8"}, DNSSearch: []string{"."}, DNSOptions: []string{"rotate", "ndots:1"}}
	if got, want := string(r.with(o).Bytes()), "nameserver 8.8.8.8\noptions rotate ndots:1\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzResolv: what is written down reads as it was.
func FuzzResolv(f *testing.F) {
	f.Add([]byte("nameserver 1.2.3.4\nsearch a b\noptions x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := parseResolv(data)
		if len(r.Servers) > maxServers {
			r.Servers = r.Servers[:maxServers]
		}
		again := parseResolv(r.Bytes())
		if string(again.Bytes()) != string(r.Bytes()) {
			t.Fatalf("%q became %q", r.Bytes(), again.Bytes())
		}
	})
}

// FuzzHosts: a line is one name and one address, whatever was asked for.
func FuzzHosts(f *testing.F) {
	f.Add("a:1.2.3.4")
	f.Add("a=[::1]")
	f.Add("gw:host-gateway")
	f.Fuzz(func(t *testing.T, s string) {
		data, err := HostsFile{Extra: []string{s}}.Bytes()
		if err != nil {
			return
		}
		plain, _ := HostsFile{}.Bytes()
		line := strings.TrimPrefix(string(data), string(plain))
		if strings.Count(line, "\n") != 1 || len(strings.Fields(line)) != 2 || strings.Contains(line, "#") {
			t.Fatalf("%q became %q", s, line)
		}
	})
}
