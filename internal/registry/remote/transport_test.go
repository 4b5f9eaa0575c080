package remote_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/remote"
)

// TestMirrors: they are read from in order, under their prefix; what they lack or cannot give comes
// from the registry, and what is written goes there alone.
func TestMirrors(t *testing.T) {
	origin := serve(t, nil)
	var asked atomic.Int64
	mirror := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			h.ServeHTTP(w, r)
		})
	})
	broken, failed := answer(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) })
	there, only := noise(1000), noise(2000)
	mirror.hold(t, "hub/app", there)
	origin.hold(t, "app", only)
	img := registrytest.Hello("mirrored")
	registrytest.Put(t, mirror.reg, registry.Ref{Repo: "hub/app", Tag: "1"}, img)
	var mu sync.Mutex
	var said []string
	c := client(t, remote.Options{
		Hosts: remote.Hosts{"registry.example.com": {HTTP: true, Mirrors: []string{"http://" + broken, mirror.addr + "/hub"}}},
		Warn: func(s string) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, s)
		},
	})
	s := origin.addr
	c.ViaOrigin("registry.example.com", s)
	repo := "registry.example.com/app"
	registrytest.Check(t, c, repo, registrytest.Image{Blobs: []registrytest.Blob{there, only}})
	if d, err := c.Resolve(t.Context(), registry.Ref{Repo: repo, Tag: "1"}); err != nil || d.Digest != img.Desc().Digest {
		t.Errorf("resolved %v, %v", d, err)
	}
	for range c.Tags(t.Context(), repo, "") {
	}
	if asked.Load() != 4 {
		t.Errorf("the mirror was asked %d times", asked.Load())
	}
	if err := registrytest.Push(t.Context(), c, repo, noise(3000)); err != nil || !origin.has(t, "app", noise(3000)) || asked.Load() != 4 {
		t.Errorf("pushed: %v; the mirror was asked %d times", err, asked.Load())
	}
	if failed.Load() != 1 {
		t.Errorf("a mirror that fails was asked %d times", failed.Load())
	}
	if len(said) == 0 || !strings.Contains(said[0], "mirror of registry.example.com: "+broken) {
		t.Errorf("said: %q", said)
	}
	if _, err := registrytest.Get(t.Context(), c, repo, noise(4000).Descriptor); !errors.Is(err, registry.ErrAbsent) || remote.DomainOf(err) != "registry.example.com" {
		t.Errorf("what nobody has: %v", err)
	}
}

// pair makes a certificate for a host, and writes it and its key as files.
func pair(t testing.TB, host, cert, key string) tls.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, x, x, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestTLS: certificates by configuration and by docker's folders, and what is said without.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	const host = "registry.example.com"
	in := func(elem ...string) string { return filepath.Join(append([]string{dir}, elem...)...) }
	certificate := pair(t, host, in("certs.d", host, "own.crt"), in("server-key.pem"))
	me := pair(t, "me", in("certs.d", host, "me.cert"), in("certs.d", host, "me.key"))
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(me.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(leaf)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	ping := func(o remote.Options) error {
		c := client(t, o)
		c.Slept()
		c.Via(host, s.Listener.Addr().String())
		return c.Host(host).Ping(t.Context())
	}
	conf := remote.HostConfig{CA: []string{in("certs.d", host, "own.crt")}, ClientCert: in("certs.d", host, "me.cert"), ClientKey: in("certs.d", host, "me.key")}
	if err := ping(remote.Options{Hosts: remote.Hosts{host: conf}}); err != nil {
		t.Errorf("as configured: %v", err)
	}
	if err := ping(remote.Options{CertFolders: []string{in("nowhere"), in("certs.d")}}); err != nil {
		t.Errorf("as in docker's folder: %v", err)
	}
	if err := ping(remote.Options{}); !errors.Is(err, remote.ErrCertificate) || remote.DomainOf(err) != host {
		t.Errorf("without: %v", err)
	}
	conf.CA = nil
	if err := ping(remote.Options{Hosts: remote.Hosts{host: conf}}); !errors.Is(err, remote.ErrCertificate) {
		t.Errorf("without authority: %v", err)
	}
	conf.Insecure = true
	if err := ping(remote.Options{Hosts: remote.Hosts{host: conf}}); err != nil {
		t.Errorf("with any certificate: %v", err)
	}
	if err := ping(remote.Options{Hosts: remote.Hosts{host: {Insecure: true}}}); err == nil {
		t.Error("let in without showing a certificate")
	}
	for name, c := range map[string]remote.HostConfig{
		"absent":    {CA: []string{in("absent.pem")}},
		"not PEM":   {CA: []string{in("server-key.pem")}},
		"other key": {ClientCert: in("certs.d", host, "me.cert"), ClientKey: in("server-key.pem")},
	} {
		r, err := remote.New(remote.Options{Credentials: remote.Anonymous{}, Hosts: remote.Hosts{host: c}})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Host(host).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPlainHTTP: it is spoken with this machine, and elsewhere where that is configured.
func TestPlainHTTP(t *testing.T) {
	f := serve(t, nil)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	const host = "registry.example.com"
	ping := func(via, host string, o remote.Options) error {
		c := client(t, o)
		c.Slept()
		if via != "" {
			c.Via(host, via)
		}
		return c.Host(host).Ping(t.Context())
	}
	if err := ping(f.addr, host, remote.Options{}); !errors.Is(err, remote.ErrPlainHTTP) || remote.DomainOf(err) != host {
		t.Errorf("elsewhere: %v", err)
	}
	if err := ping(f.addr, host, remote.Options{Hosts: remote.Hosts{host: {HTTP: true}}}); err != nil {
		t.Errorf("as configured: %v", err)
	}
	if err := ping("", f.addr, remote.Options{}); err != nil {
		t.Errorf("this machine: %v", err)
	}
	if err := ping("", strings.Replace(f.addr, "127.0.0.1", "localhost", 1), remote.Options{}); err != nil {
		t.Errorf("localhost: %v", err)
	}
	if err := ping("", secure.Listener.Addr().String(), remote.Options{}); !errors.Is(err, remote.ErrCertificate) {
		t.Errorf("this machine by https: %v", err)
	}
	if err := ping("", "127.0.0.1:1", remote.Options{}); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("nobody there: %v", err)
	}
}

// TestLimits: no more requests wait at once than allowed.
func TestLimits(t *testing.T) {
	var now, most atomic.Int64
	addr, _ := answer(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
	})
	c := client(t, remote.Options{Hosts: remote.Hosts{addr: {MaxRequests: 2, Rate: 1000}}})
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if err := c.Host(addr).Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() > 2 {
		t.Errorf("%d at once", most.Load())
	}
}
