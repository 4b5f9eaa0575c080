package remote

import (
	"context"
	"encoding/base64"
	"log/slog"
)

// Credential is who we are for a registry. The zero value is nobody. It prints
// without its secrets.
type Credential struct {
	Username, Password string
	IdentityToken      string // is turned into tokens by the token server, in place of a password
	RegistryToken      string // is sent as it is
}

// Credentials finds credentials.
type Credentials interface {
	// Get returns the credential for the registry of a domain, as that is in names of
	// images ("docker.io", "localhost:5000"); the zero one if there is none.
	Get(ctx context.Context, domain string) (Credential, error)
}

// Anonymous has no credentials.
type Anonymous struct{}

// Get implements Credentials.
func (Anonymous) Get(context.Context, string) (Credential, error) { return Credential{}, nil }

// String leaves the secrets out.
func (c Credential) String() string {
	if c == (Credential{}) {
		return "nobody"
	}
	return "credential of " + c.Username
}

// GoString leaves the secrets out.
func (c Credential) GoString() string { return c.String() }

// LogValue implements slog.LogValuer.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// basic is the value of the header for basic authentication.
func (c Credential) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}
