package network

import (
	"strings"
	"testing"
)

func TestLoopbackProxy(t *testing.T) {
	for value, want := range map[string]string{
		"http_proxy=http://127.0.0.1:3128":           "http://127.0.0.1:3128",
		"HTTPS_PROXY=http://user:pw@localhost:3128/": "http://user:xxxxx@localhost:3128/",
		"all_proxy=socks5://[::1]:1080":              "socks5://[::1]:1080",
		"http_proxy=127.0.0.1:3128":                  "http://127.0.0.1:3128",
		"http_proxy=http://10.0.0.1:3128":            "",
		"http_proxy=":                                "",
		"http_proxy=http://%zz":                      "",
		"no_proxy=127.0.0.1":                         "",
	} {
		if got := loopbackProxy([]string{"A=b", value}); got != want {
			t.Errorf("%s: %q, want %q", value, got, want)
		}
	}
}

// TestPool has networks used again, and the host's where there is none with a way out.
func TestPool(t *testing.T) {
	fakeHost(t)
	var notes []string
	p := NewPool(Ask{Hostname: "step", Guard: noGuard}, func(s string) { notes = append(notes, s) })
	defer p.Close()
	one, err := p.Get(t.Context(), nil)
	if err != nil || one == nil || one.Info.Way != WayBridge {
		t.Fatalf("%+v, %v", one, err)
	}
	two, _ := p.Get(t.Context(), nil)
	if two == nil || two.Info.IP == one.Info.IP {
		t.Errorf("%+v and %+v at once", one.Info, two)
	}
	p.Put(one)
	if again, _ := p.Get(t.Context(), nil); again != one {
		t.Error("it was not used again")
	}
	p.Put(two)
	p.Put(one)
	notes = nil
	for range 2 {
		if n, err := p.Get(t.Context(), []string{"http_proxy=http://localhost:1"}); n != nil || err != nil {
			t.Errorf("with a proxy on the host's loopback: %v, %v", n, err)
		}
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "http://localhost:1 is on its loopback") {
		t.Errorf("%q", notes)
	}
}

func TestPoolFallsBack(t *testing.T) {
	fakeHost(t)
	noBridge(t)
	t.Setenv("PATH", "/nowhere")
	var notes []string
	p := NewPool(Ask{Guard: noGuard}, func(s string) { notes = append(notes, s) })
	for range 2 {
		if n, err := p.Get(t.Context(), nil); n != nil || err != nil {
			t.Errorf("%v, %v", n, err)
		}
	}
	if len(notes) != 1 || !strings.HasPrefix(notes[0], "the network is the host's: ") || !strings.Contains(notes[0], "install pasta") {
		t.Errorf("%q", notes)
	}
}
