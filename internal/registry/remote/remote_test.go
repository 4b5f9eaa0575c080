package remote_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"nacre/internal/registry/remote"
	"nacre/internal/registry/server"
	"nacre/internal/registry/server/servertest"
)

// docker starts Docker's registry (the package docker-registry) and returns its address.
func docker(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: %q}\n", dir, addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", config)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: run scripts/setup tools", err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get("http://" + addr + "/v2/"); err == nil {
			resp.Body.Close()
			return addr
		}
		select {
		case <-ended:
			t.Fatalf("docker-registry: %s", log.String())
		default:
		}
	}
	t.Fatalf("docker-registry does not answer: %s", log.String())
	return ""
}

// fixture is our own server over a registry in memory.
type fixture struct {
	*httptest.Server
	addr string
	reg  *servertest.Strict
}

// serve starts a registry; wrap, where it is not nil, comes before it.
func serve(t testing.TB, wrap func(http.Handler) http.Handler) fixture {
	t.Helper()
	return start(t, wrap, (*httptest.Server).Start)
}

// serveTLS is serve by https and HTTP/2.
func serveTLS(t testing.TB, wrap func(http.Handler) http.Handler) fixture {
	t.Helper()
	return start(t, wrap, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
	})
}

func start(t testing.TB, wrap func(http.Handler) http.Handler, begin func(*httptest.Server)) fixture {
	t.Helper()
	reg := servertest.NewStrict()
	s, err := server.New(reg, server.Options{Uploads: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler = s
	if wrap != nil {
		h = wrap(s)
	}
	f := fixture{httptest.NewUnstartedServer(h), "", reg}
	begin(f.Server)
	f.addr = f.Listener.Addr().String()
	t.Cleanup(func() {
		f.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// client makes a client without credentials that fails the test when it warns.
func client(t testing.TB, o remote.Options) *remote.Registry {
	t.Helper()
	if o.Credentials == nil {
		o.Credentials = remote.Anonymous{}
	}
	if o.CertFolders == nil {
		o.CertFolders = []string{}
	}
	if o.Warn == nil {
		o.Warn = func(s string) { t.Errorf("warning: %s", s) }
	}
	r, err := remote.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
