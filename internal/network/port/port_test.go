package port

import (
	"strings"
	"testing"
)

func TestParsePublish(t *testing.T) {
	for in, want := range map[string]string{
		"80":                                    "any:0-0:80/tcp",
		"80/udp":                                "any:0-0:80/udp",
		"80/TCP":                                "any:0-0:80/tcp",
		"8080:80":                               "any:8080-0:80/tcp",
		"127.0.0.1:8080:80":                     "127.0.0.1:8080-0:80/tcp",
		"127.0.0.1::80":                         "127.0.0.1:0-0:80/tcp",
		"[::1]:8080:80/udp":                     "::1:8080-0:80/udp",
		"::1:8080:80":                           "::1:8080-0:80/tcp",
		"[::]::80":                              ":::0-0:80/tcp",
		"0.0.0.0:8080:80":                       "0.0.0.0:8080-0:80/tcp",
		"8000-8002:80-82":                       "any:8000-0:80/tcp any:8001-0:81/tcp any:8002-0:82/tcp",
		"80-81":                                 "any:0-0:80/tcp any:0-0:81/tcp",
		"8000-8010:80":                          "any:8000-8010:80/tcp",
		"127.0.0.1:1-2:3-4":                     "127.0.0.1:1-0:3/tcp 127.0.0.1:2-0:4/tcp",
		"[::ffff:127.0.0.1]:1:2":                "127.0.0.1:1-0:2/tcp",
		"published=8080,target=80,protocol=udp": "any:8080-0:80/udp",
		"target=80":                             "any:0-0:80/tcp",
		"65535:65535":                           "any:65535-0:65535/tcp",
	} {
		ports, err := ParsePublish(in)
		if got := show(ports); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
}

func show(ports []Port) string {
	var out []string
	for _, p := range ports {
		ip := p.HostIP
		if ip == "" {
			ip = "any"
		}
		out = append(out, ip+":"+itoa(p.HostPort)+"-"+itoa(p.HostEnd)+":"+p.Key())
	}
	return strings.Join(out, " ")
}

func itoa(n uint16) string { return strings.TrimSuffix(Port{ContainerPort: n}.Key(), "/") }

func TestParsePublishErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "no container port",
		":":                  "no container port",
		"80:":                "no container port",
		"0":                  "want 1 to 65535",
		"65536":              "want 1 to 65535",
		"-1":                 "want 1 to 65535",
		"80/sctp":            "cannot be published",
		"80/icmp":            "invalid protocol",
		"web:80:80":          "invalid IP address",
		"[::1:80:80":         "invalid IP address",
		"[fe80::1%eth0]:1:1": "invalid IP address",
		"82-80":              "ends before it begins",
		"1-3:1-2":            "invalid ranges",
		"1-65535":            "too many",
		"target=80,color=1":  "invalid field",
		"published=80":       "no target",
		"1.2.3.4":            "want 1 to 65535",
		"a:b":                "container port",
		"b:1":                "host port",
	} {
		if _, err := ParsePublish(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}

func TestExpose(t *testing.T) {
	have := []Port{{HostPort: 8080, ContainerPort: 80, Proto: TCP}}
	got, err := Expose(have, []string{"443/tcp", "80", "53-54/udp"})
	if want := "any:8080-0:80/tcp any:0-0:443/tcp any:0-0:53/udp any:0-0:54/udp"; err != nil || show(got) != want {
		t.Errorf("%s, %v", show(got), err)
	}
	if _, err := Expose(nil, []string{"x"}); err == nil {
		t.Error("x: no error")
	}
}

func TestString(t *testing.T) {
	for want, p := range map[string]Port{
		"80/tcp":               {ContainerPort: 80, Proto: TCP},
		"0.0.0.0:8080->80/tcp": {HostPort: 8080, ContainerPort: 80, Proto: TCP},
		"[::1]:8080->80/udp":   {HostIP: "::1", HostPort: 8080, ContainerPort: 80, Proto: UDP},
	} {
		if p.String() != want {
			t.Errorf("%s, want %s", p, want)
		}
	}
}

// FuzzParsePublish looks that what is accepted makes sense.
func FuzzParsePublish(f *testing.F) {
	for _, s := range []string{"80", "[::1]:1-2:3-4/udp", "1.2.3.4::5", "published=1,target=2", "1-9:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ports, err := ParsePublish(s)
		if err == nil && len(ports) == 0 || len(ports) > maxPublished {
			t.Fatalf("%q: %d ports", s, len(ports))
		}
		for _, p := range ports {
			if p.ContainerPort == 0 || p.Proto != TCP && p.Proto != UDP || p.HostEnd != 0 && p.HostEnd < p.HostPort {
				t.Fatalf("%q: %+v", s, p)
			}
		}
	})
}
