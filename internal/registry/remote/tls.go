package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// certFolders are where docker and podman keep certificates by registry: HOST/*.crt are
// authorities, HOST/*.cert with *.key is who we are.
func certFolders() []string {
	folders := []string{"/etc/docker/certs.d", "/etc/containers/certs.d"}
	if home, err := os.UserConfigDir(); err == nil {
		folders = append(folders, filepath.Join(home, "containers", "certs.d"))
	}
	return folders
}

// tlsConfig gathers the certificates for a registry. own: there are any.
func (r *Registry) tlsConfig(domain string, c HostConfig) (conf *tls.Config, own bool, err error) {
	conf = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Insecure}
	cas, pairs := c.CA, [][2]string{}
	if c.ClientCert != "" {
		pairs = append(pairs, [2]string{c.ClientCert, c.ClientKey})
	}
	folders := r.o.CertFolders
	if folders == nil {
		folders = certFolders()
	}
	for _, folder := range folders {
		more, who, err := certsIn(filepath.Join(folder, domain))
		if err != nil {
			return nil, false, err
		}
		cas, pairs = append(cas[:len(cas):len(cas)], more...), append(pairs, who...)
	}
	if len(cas) > 0 {
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			conf.RootCAs = x509.NewCertPool()
		}
	}
	for _, file := range cas {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, false, err
		}
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, false, fmt.Errorf("%s: no certificate in it", file)
		}
	}
	for _, p := range pairs {
		pair, err := tls.LoadX509KeyPair(p[0], p[1])
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", p[0], err)
		}
		conf.Certificates = append(conf.Certificates, pair)
	}
	return conf, c.Insecure || len(cas)+len(pairs) > 0, nil
}

// certsIn lists the certificates of one folder, which need not be there.
func certsIn(folder string) (cas []string, pairs [][2]string, err error) {
	files, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		path := filepath.Join(folder, f.Name())
		switch stem, _ := strings.CutSuffix(path, filepath.Ext(path)); filepath.Ext(path) {
		case ".crt":
			cas = append(cas, path)
		case ".cert":
			pairs = append(pairs, [2]string{path, stem + ".key"})
		}
	}
	return cas, pairs, nil
}
