package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// wire is a TCP connection's way to a server: it knows nothing of what flows in it. Connections are reset after cut
// bytes of one direction (0: never), and each direction flows at rate bytes a second (0: as it can).
type wire struct {
	addr, to string
	cut      int64
	rate     int64
	up, down atomic.Int64 // bytes
	cuts     atomic.Int64
}

func newWire(t *testing.T, to string, cut, rate int64) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{addr: l.Addr().String(), to: to, cut: cut, rate: rate}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			go w.pump(server, client, &w.up, rate)
			go w.pump(client, server, &w.down, rate)
		}
	}()
	return w
}

// pump carries one direction of a connection. The end of one is the end of both.
func (w *wire) pump(to, from net.Conn, count *atomic.Int64, rate int64) {
	defer to.Close()
	defer from.Close()
	buf, total := make([]byte, 32<<10), int64(0)
	for {
		n, err := from.Read(buf)
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
		count.Add(int64(n))
		if total += int64(n); w.cut > 0 && total >= w.cut {
			w.cuts.Add(1)
			for _, c := range []net.Conn{to, from} {
				c.(*net.TCPConn).SetLinger(0) // a reset, as from a line that is gone
			}
			return
		}
		if rate > 0 {
			time.Sleep(time.Duration(int64(n) * int64(time.Second) / rate))
		}
	}
}

// writeTLS writes a certificate of 127.0.0.1, its own authority, as cert.pem, key.pem and ca.crt.
func writeTLS(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "nacre test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, filepath.Join(dir, "cert.pem"), cert)
	write(t, filepath.Join(dir, "ca", "ca.crt"), cert)
	write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

// password is what writeUsers gives a user.
func password(user string) string { return user + "-S3cret" }

func writeUsers(t *testing.T, dir string, users ...string) {
	t.Helper()
	var b strings.Builder
	for _, u := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte(password(u)), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s:%s\n", u, hash)
	}
	write(t, filepath.Join(dir, "users"), b.String())
}

// trust lets nacre believe the certificate of writeTLS at these addresses, and know alice.
func (s *store) trust(t *testing.T, dir string, addrs ...string) {
	t.Helper()
	var b strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&b, "[host.%q]\nca = [%q]\n", a, filepath.Join(dir, "ca", "ca.crt"))
	}
	home := t.TempDir()
	write(t, filepath.Join(home, "registries.toml"), b.String())
	s.env = append(s.env, "NACRE_REGISTRIES="+filepath.Join(home, "registries.toml"), "DOCKER_CONFIG="+home)
	for _, a := range addrs {
		if r := s.runIn(t, password("alice"), "login", "-u", "alice", "--password-stdin", a); r.code != 0 {
			t.Fatal(r)
		}
	}
}
