package remote

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"nacre/internal/registry"
)

// Verify asks the registry of a domain whether it knows who c is. Errors: ErrUnauthorized,
// those of Host.Ping.
func Verify(ctx context.Context, o Options, domain string, c Credential) error {
	o.Credentials = only{domain, c}
	r, err := New(o)
	if err != nil {
		return err
	}
	return r.Host(domain).Ping(ctx)
}

// only is one credential.
type only struct {
	domain string
	c      Credential
}

func (o only) Get(_ context.Context, domain string) (Credential, error) {
	if domain != o.domain {
		return Credential{}, nil
	}
	return o.c, nil
}

// Login keeps a credential: with the helper that config.json has for the registry, or in the file
// itself, in the clear. It tells where: "" in a helper, otherwise the file.
func (c *DockerConfig) Login(ctx context.Context, domain string, who Credential) (file string, err error) {
	err = c.change(func(f configFile, raw map[string]json.RawMessage, auths map[string]json.RawMessage) error {
		entry := authEntry{Auth: base64.StdEncoding.EncodeToString([]byte(who.Username + ":" + who.Password))}
		h := f.helper(domain)
		switch err := h.store(ctx, keyOf(domain), who); {
		case h == "" || errors.Is(err, errNoHelper) && !f.hasOwn(domain):
			file = c.Path
		case err != nil:
			return err
		default:
			entry = authEntry{} // docker lists it nevertheless
		}
		data, err := json.Marshal(entry)
		auths[keyOf(domain)] = data
		return err
	})
	return file, wrap("keep the credential for "+domain, err)
}

// Logout forgets what is known for a registry in config.json and its helper. It tells whether there was
// anything; it is nothing that podman's files still have some.
func (c *DockerConfig) Logout(ctx context.Context, domain string) (was bool, err error) {
	err = c.change(func(f configFile, raw map[string]json.RawMessage, auths map[string]json.RawMessage) error {
		for key := range auths {
			if sameRegistry(key, domain) {
				was = true
				delete(auths, key)
			}
		}
		h := f.helper(domain)
		if h == "" {
			return nil
		}
		got, err := h.get(ctx, keyOf(domain))
		if errors.Is(err, errNoHelper) && !f.hasOwn(domain) {
			return nil
		}
		if err != nil || got == (Credential{}) {
			return err
		}
		was = true
		return h.erase(ctx, keyOf(domain))
	})
	return was, wrap("forget the credential for "+domain, err)
}

// helper is what keeps the credentials of a registry; "": the file does.
func (f configFile) helper(domain string) helper {
	for key, name := range f.CredHelpers {
		if sameRegistry(key, domain) {
			return helper(name)
		}
	}
	return helper(f.CredsStore)
}

func (f configFile) hasOwn(domain string) bool {
	return f.helper(domain) != helper(f.CredsStore)
}

// change rewrites config.json: whole or not at all, alone, and with all that is in it that
// we know nothing about.
func (c *DockerConfig) change(edit func(f configFile, raw, auths map[string]json.RawMessage) error) error {
	path := c.Path
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to // the link stays one
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	raw, auths := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	data, err := readConfig(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := parseConfig(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(bytes.TrimSpace(data)) > 0 {
		if err := json.Unmarshal(data, &raw); err != nil || raw == nil {
			return fmt.Errorf("%s: %w: not an object", path, registry.ErrInvalid)
		}
	}
	if old := raw["auths"]; old != nil {
		if err := json.Unmarshal(old, &auths); err != nil || auths == nil {
			auths = map[string]json.RawMessage{}
		}
	}
	if err := edit(f, raw, auths); err != nil {
		return err
	}
	if raw["auths"], err = json.Marshal(auths); err != nil {
		return err
	}
	out, err := json.MarshalIndent(raw, "", "\t")
	if err != nil {
		return err
	}
	return replace(path, append(out, '\n'))
}

// lock lets one process at a time change what is in dir.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// replace writes a file for nobody else to read, whole or not at all.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".config.json.*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
