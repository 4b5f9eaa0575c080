package config

import "path/filepath"

// resolve makes the paths of a configuration relative to the folder of its file, so that
// it means the same wherever the server is started.
func (c *Config) resolve(dir string) {
	paths := []*string{&c.Dir, &c.State, &c.TLS.Cert, &c.TLS.Key, &c.TLS.ClientCA, &c.Auth.Htpasswd}
	if c.Auth.TokenService != nil {
		paths = append(paths, &c.Auth.TokenService.Key)
	}
	if c.Auth.External != nil {
		paths = append(paths, &c.Auth.External.Keys)
	}
	for i := range c.Webhooks {
		paths = append(paths, &c.Webhooks[i].SecretFile)
	}
	for i := range c.Proxy {
		paths = append(paths, &c.Proxy[i].PasswordFile)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}
