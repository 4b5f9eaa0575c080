package remote

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
)

// DockerConfig is credentials as docker keeps them: in a config.json, or with the helpers
// it names. Where it has none for a registry, others are looked into, which are only read.
type DockerConfig struct {
	Path      string   // of config.json, which need not be there
	Fallbacks []string // other files of that form: podman's
}

// hubKey is what docker.io is called in these files and by helpers.
const hubKey = "https://index.docker.io/v1/"

// maxConfig bounds the files, in bytes.
const maxConfig = 8 << 20

// DefaultCredentials are those of $DOCKER_CONFIG/config.json, or ~/.docker/config.json; then
// of podman: $REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json and
// ~/.config/containers/auth.json. Docker's come first because login writes there: who has just
// logged in is not to be overruled by an older file.
func DefaultCredentials() *DockerConfig {
	home := os.Getenv("HOME")
	if !filepath.IsAbs(home) { // as docker does; what is in the working directory may be anybody's
		home = "/"
		if u, err := user.Current(); err == nil && filepath.IsAbs(u.HomeDir) {
			home = u.HomeDir
		}
	}
	c := &DockerConfig{Path: filepath.Join(cmp.Or(os.Getenv("DOCKER_CONFIG"), filepath.Join(home, ".docker")), "config.json")}
	add := func(env string, path ...string) {
		if env != "" {
			c.Fallbacks = append(c.Fallbacks, filepath.Join(append([]string{env}, path...)...))
		}
	}
	add(os.Getenv("REGISTRY_AUTH_FILE"))
	add(os.Getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	if conf, err := os.UserConfigDir(); err == nil {
		add(conf, "containers", "auth.json")
	}
	return c
}

// configFile is what is read of a config.json.
type configFile struct {
	Auths       map[string]authEntry `json:"auths"`
	CredsStore  string               `json:"credsStore"`
	CredHelpers map[string]string    `json:"credHelpers"`
}

// authEntry is one login in it.
type authEntry struct {
	Auth          string `json:"auth,omitempty"` // base64 of user:password
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// Get implements Credentials.
func (c *DockerConfig) Get(ctx context.Context, domain string) (Credential, error) {
	for _, path := range append([]string{c.Path}, c.Fallbacks...) {
		data, err := readConfig(path)
		if errors.Is(err, fs.ErrNotExist) || path != c.Path && errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return Credential{}, fmt.Errorf("credentials for %s: %w", domain, err)
		}
		f, err := parseConfig(data)
		if err != nil {
			return Credential{}, fmt.Errorf("credentials for %s: %s: %w", domain, path, err)
		}
		got, err := f.get(ctx, domain)
		if err != nil || got != (Credential{}) {
			return got, wrap("credentials for "+domain, err)
		}
	}
	return Credential{}, nil
}

func readConfig(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxConfig {
		return nil, fmt.Errorf("%s: not a file of at most %d bytes", path, maxConfig)
	}
	return os.ReadFile(path)
}

// Domains are those of the registries that there are credentials for, or helpers.
func (c *DockerConfig) Domains() ([]string, error) {
	domains := map[string]bool{}
	var failed error
	for _, path := range append([]string{c.Path}, c.Fallbacks...) {
		data, err := readConfig(path)
		var f configFile
		if err == nil {
			f, err = parseConfig(data)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
		for key := range f.Auths {
			domains[Domain(key)] = true
		}
		for key := range f.CredHelpers {
			domains[Domain(key)] = true
		}
	}
	delete(domains, "") // of keys for some repositories
	return slices.Sorted(maps.Keys(domains)), failed
}

// Read decodes into v what else config.json has; nothing where it is not there.
func (c *DockerConfig) Read(v any) error {
	data, err := readConfig(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return wrap(c.Path, decodeConfig(data, v))
}

func parseConfig(data []byte) (f configFile, err error) {
	err = decodeConfig(data, &f)
	return f, err
}

// decodeConfig reads a config.json. Its errors do not quote it.
func decodeConfig(data []byte, v any) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil // as docker takes it
	}
	err := json.Unmarshal(data, v)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON, at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("%s is a %s", kind.Field, kind.Value)
	}
	return errors.New("not what docker writes")
}

// get finds who we are for a registry: from the helper for it, from the one for all, from the file.
func (f configFile) get(ctx context.Context, domain string) (Credential, error) {
	for key, name := range f.CredHelpers {
		if sameRegistry(key, domain) && name != "" {
			return helper(name).get(ctx, keyOf(domain))
		}
	}
	if f.CredsStore != "" {
		c, err := helper(f.CredsStore).get(ctx, keyOf(domain))
		// A store that is not installed, as where a home directory is shared, is no reason not to pull.
		if err != nil && !errors.Is(err, errNoHelper) || c != (Credential{}) {
			return c, err
		}
	}
	keys := slices.Sorted(maps.Keys(f.Auths))
	if i := slices.Index(keys, keyOf(domain)); i > 0 { // docker's own form decides
		keys[0], keys[i] = keys[i], keys[0]
	}
	for _, key := range keys {
		if !sameRegistry(key, domain) {
			continue
		}
		if c, err := f.Auths[key].credential(); err != nil || c != (Credential{}) {
			return c, err
		}
	}
	return Credential{}, nil
}

func (a authEntry) credential() (Credential, error) {
	c := Credential{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	if a.Auth == "" {
		return c, nil
	}
	raw, err := base64.StdEncoding.DecodeString(a.Auth)
	user, password, ok := strings.Cut(strings.TrimRight(string(raw), "\x00"), ":")
	if err != nil || !ok || user == "" {
		return Credential{}, errors.New("auth is not base64 of user:password")
	}
	c.Username, c.Password = user, password
	if a.IdentityToken != "" {
		c.Password = "" // docker keeps a placeholder, if anything
	}
	return c, nil
}

// keyOf is what the registry of a domain is called in config.json and by helpers.
func keyOf(domain string) string {
	if domain == dockerHub {
		return hubKey
	}
	return domain
}

// sameRegistry tells whether a key of config.json is for the registry of a domain. Keys may be URLs: older versions of
// docker wrote such. A key with a path of its own is podman's, for some
// repositories, and not meant.
func sameRegistry(key, domain string) bool {
	host := Domain(key)
	return host != "" && host == domain
}

// Domain is the domain that a registry has in names of images, of what people and files call it: a domain, a URL,
// or a name of docker.io. "": it is none.
func Domain(s string) string {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	host, path, _ := strings.Cut(s, "/")
	switch strings.Trim(path, "/") {
	case "", "v1", "v2":
	default:
		return ""
	}
	switch host {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return dockerHub
	}
	return host
}
