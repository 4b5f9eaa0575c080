package serve

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"time"

	"nacre/internal/serve/config"
	"nacre/internal/serve/watch"
)

// certificates are those of the server, as new as their files.
type certificates struct{ current *watch.Value[*tls.Config] }

// newCertificates reads the files; nil where none are named.
func newCertificates(c config.TLS, log *slog.Logger, now func() time.Time) (*certificates, error) {
	if c.Cert == "" {
		return nil, nil
	}
	paths := []string{c.Cert, c.Key}
	if c.ClientCA != "" {
		paths = append(paths, c.ClientCA)
	}
	warn := func(err error) {
		log.Error("the new certificate cannot be used; the old one stays in force", "error", err.Error())
	}
	load := func() (*tls.Config, error) {
		t, err := loadTLS(c)
		if err == nil && len(t.Certificates[0].Certificate) > 0 {
			log.Info("certificate loaded", "file", c.Cert, "expires", t.Certificates[0].Leaf.NotAfter.UTC().Format(time.RFC3339))
		}
		return t, err
	}
	v, err := watch.New(load, warn, now, paths...)
	if err != nil {
		return nil, err
	}
	return &certificates{v}, nil
}

func loadTLS(c config.TLS) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s with key %s: %w", c.Cert, c.Key, err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{cert}}
	if c.ClientCA == "" {
		return t, nil
	}
	data, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("read client-ca: %w", err)
	}
	t.ClientCAs = x509.NewCertPool()
	if !t.ClientCAs.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: there is no certificate in it", c.ClientCA)
	}
	t.ClientAuth = tls.RequireAndVerifyClientCert
	return t, nil
}

// config asks for the current certificate at each handshake.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Get(), nil },
	}
}
