package remote

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/pelletier/go-toml/v2"

	"nacre/internal/registry"
)

// hostsFile is registries.toml. docs/registries.md describes it.
type hostsFile struct {
	Host map[string]hostEntry `toml:"host"`
}

type hostEntry struct {
	Mirrors     []string          `toml:"mirrors"`
	HTTP        bool              `toml:"http"`
	Insecure    bool              `toml:"insecure"`
	CA          []string          `toml:"ca"`
	ClientCert  string            `toml:"client-cert"`
	ClientKey   string            `toml:"client-key"`
	MaxRequests int               `toml:"max-requests"`
	Rate        float64           `toml:"requests-per-second"`
	Chunk       string            `toml:"chunk"`
	Headers     map[string]string `toml:"headers"`
}

// hostKeys are the keys there are, for those who mistype one.
var hostKeys = []string{"host", "mirrors", "http", "insecure", "ca", "client-cert", "client-key", "max-requests", "requests-per-second", "chunk", "headers"}

// DefaultHosts reads the hosts file: $NACRE_REGISTRIES, or /etc/nacre/registries.toml and then
// $XDG_CONFIG_HOME/nacre/registries.toml (~/.config), in which what is said of a host takes the place of
// what the other says of it. None of the latter need be there.
func DefaultHosts() (Hosts, error) {
	if path := os.Getenv("NACRE_REGISTRIES"); path != "" {
		return LoadHosts(path)
	}
	all := Hosts{}
	paths := []string{"/etc/nacre/registries.toml"}
	if conf, err := os.UserConfigDir(); err == nil {
		paths = append(paths, filepath.Join(conf, "nacre", "registries.toml"))
	}
	for _, path := range paths {
		h, err := LoadHosts(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		maps.Copy(all, h)
	}
	return all, nil
}

// LoadHosts reads a registries.toml. Errors: ErrInvalid, with file and line.
func LoadHosts(path string) (Hosts, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	h, err := parseHosts(data, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return h, nil
}

// parseHosts reads the text of a registries.toml in folder dir. Its errors begin
// with a line.
func parseHosts(data []byte, dir string) (Hosts, error) {
	var f hostsFile
	d := toml.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, tomlError(err)
	}
	all := Hosts{}
	for domain, e := range f.Host {
		c, err := e.config(domain, dir)
		if err == nil {
			err = Hosts{domain: c}.check()
		}
		if err != nil {
			return nil, fmt.Errorf("%d: %w", lineOf(data, domain), err)
		}
		all[domain] = c
	}
	return all, nil
}

// tomlError puts line and suggestion to what the decoder says.
func tomlError(err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		e := strict.Errors[0]
		line, _ := e.Position()
		key := e.Key() // of ["host", domain, key, ...]
		last := key[min(2, len(key)-1)]
		if key[0] != "host" {
			last = key[0]
		}
		meant := ""
		if near := nearest(last, hostKeys); near != "" {
			meant = fmt.Sprintf(": did you mean %q?", near)
		}
		return fmt.Errorf("%d: %w: unknown key %q%s", line, registry.ErrInvalid, plain(last, 100), meant)
	}
	var dec *toml.DecodeError
	if errors.As(err, &dec) {
		line, _ := dec.Position()
		return fmt.Errorf("%d: %w: %s", line, registry.ErrInvalid, plain(strings.TrimPrefix(dec.Error(), "toml: "), maxDetail))
	}
	return fmt.Errorf("1: %w: %s", registry.ErrInvalid, plain(err.Error(), maxDetail))
}

// lineOf is the first line with the table of a host; 1 if it is written in another way.
func lineOf(data []byte, domain string) int {
	for i, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "[") && strings.Contains(line, domain) {
			return i + 1
		}
	}
	return 1
}

func (e hostEntry) config(domain, dir string) (HostConfig, error) {
	if got := Domain(domain); got != domain || strings.ContainsAny(domain, " /") {
		return HostConfig{}, fmt.Errorf("%w: host %q: want the registry's name in names of images, as %q", registry.ErrInvalid, plain(domain, 100), cmp.Or(got, "registry.example.com:5000"))
	}
	c := HostConfig{Mirrors: e.Mirrors, HTTP: e.HTTP, Insecure: e.Insecure, MaxRequests: e.MaxRequests, Rate: e.Rate, Headers: e.Headers}
	abs := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	}
	for _, ca := range e.CA {
		c.CA = append(c.CA, abs(ca))
	}
	c.ClientCert, c.ClientKey = abs(e.ClientCert), abs(e.ClientKey)
	if e.Chunk != "" {
		n, err := units.RAMInBytes(e.Chunk)
		if err != nil || n <= 0 {
			return c, fmt.Errorf("%w: host %s: chunk = %q: want a size, as \"16MB\"", registry.ErrInvalid, domain, plain(e.Chunk, 100))
		}
		c.Chunk = n
	}
	for name := range e.Headers {
		if strings.EqualFold(name, "Authorization") || strings.EqualFold(name, "Host") {
			return c, fmt.Errorf("%w: host %s: the header %s cannot be set here", registry.ErrInvalid, domain, name)
		}
	}
	return c, nil
}

// nearest is the word at most two edits away; "": none is.
func nearest(s string, words []string) string {
	best, found := 3, ""
	for _, w := range words {
		if d := edits(s, w); d < best {
			best, found = d, w
		}
	}
	return found
}

// edits counts the letters to be changed, added or removed (Levenshtein).
func edits(a, b string) int {
	if len(a) > 100 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
