package serve

import (
	"errors"
	"fmt"
	"os"

	"nacre/internal/serve/auth"
	"nacre/internal/serve/config"
)

// CheckFiles reads all files that a configuration names, and makes none. It returns
// everything that is wrong.
func CheckFiles(c config.Config) error {
	var errs []error
	if c.TLS.Cert != "" {
		_, err := loadTLS(c.TLS)
		errs = append(errs, err)
	}
	errs = append(errs, auth.CheckFiles(c.Auth))
	for _, w := range c.Webhooks {
		_, err := secretOf(w)
		errs = append(errs, err)
	}
	for _, p := range c.Proxy {
		if p.PasswordFile == "" {
			continue
		}
		if _, err := os.ReadFile(p.PasswordFile); err != nil {
			errs = append(errs, fmt.Errorf("proxy %s: password-file: %w", p.Prefix, err))
		}
	}
	return errors.Join(errs...)
}
