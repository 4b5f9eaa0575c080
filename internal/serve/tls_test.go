package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	pem  []byte
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool(), pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	a.pool.AddCert(cert)
	return a
}

// issue writes a certificate of 127.0.0.1 with this serial number.
func (a *authority) issue(t testing.TB, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	put(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

func put(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// serial is the number of the certificate that the server has now.
func serial(t testing.TB, addr string, c *tls.Config) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestTLS(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	ca.issue(t, dir, 2)
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	s := run(t, filled(t), "tls: {cert: DIR/cert.pem, key: DIR/key.pem}", Options{State: dir, Now: func() time.Time { return time.Unix(0, now.Load()) }})
	trust := &tls.Config{RootCAs: ca.pool}
	if n := serial(t, s.Addr(), trust); n != 2 {
		t.Errorf("certificate %d", n)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true}}
	resp, err := client.Get(s.url + "/v2/")
	if err != nil || resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Errorf("%v %+v", err, resp)
	}
	resp.Body.Close()
	client.CloseIdleConnections()
	if _, err := tls.Dial("tcp", s.Addr(), &tls.Config{RootCAs: ca.pool, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	ca.issue(t, dir, 3)
	if n := serial(t, s.Addr(), trust); n != 2 {
		t.Errorf("within the second: certificate %d", n)
	}
	now.Add(int64(2 * time.Second))
	if n := serial(t, s.Addr(), trust); n != 3 {
		t.Errorf("after the change: certificate %d", n)
	}
	put(t, filepath.Join(dir, "cert.pem"), []byte("half a certif"))
	now.Add(int64(2 * time.Second))
	if n := serial(t, s.Addr(), trust); n != 3 {
		t.Errorf("after a bad change: certificate %d", n)
	}
	if n := len(s.log.lines(t, "the new certificate cannot be used; the old one stays in force")); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestClientCertificates(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	ca.issue(t, dir, 2)
	put(t, filepath.Join(dir, "ca.pem"), ca.pem)
	s := run(t, filled(t), "tls: {cert: DIR/cert.pem, key: DIR/key.pem, client-ca: DIR/ca.pem}", Options{State: dir})
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	get := func(certs ...tls.Certificate) error {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: ca.pool, Certificates: certs}}}
		resp, err := c.Get(s.url + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := get(pair); err != nil {
		t.Error(err)
	}
	if err := get(); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
}
