package volume

import (
	"encoding/csv"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// ParseMount reads a value of --mount: fields KEY=VALUE with commas between, in quotes where a value has commas itself, as in a line of CSV.
// Without a type it is a volume.
func ParseMount(s string) (Mount, error) {
	if err := readable(s); err != nil {
		return Mount{}, err
	}
	r := csv.NewReader(strings.NewReader(s))
	fields, err := r.Read()
	if err != nil {
		return Mount{}, fmt.Errorf("want KEY=VALUE fields with commas between: %w", err)
	}
	if _, err := r.Read(); err == nil {
		return Mount{}, errors.New("want one line of KEY=VALUE fields")
	}
	p := mountParser{m: Mount{Type: TypeVolume, Flag: "mount"}}
	for _, field := range fields {
		if err := p.field(field); err != nil {
			return Mount{}, err
		}
	}
	return p.m, p.finish()
}

// mountParser collects the fields of a --mount.
type mountParser struct {
	m        Mount
	prefixes []string // "bind", "volume", ... of keys that are for one type alone
	readOnly bool     // readonly or rw was there
}

func (p *mountParser) field(field string) error {
	key, value, has := strings.Cut(field, "=")
	key = strings.ToLower(strings.TrimSpace(key))
	if !has {
		switch key {
		case "readonly", "ro", "rw", "readwrite", "volume-nocopy", "bind-nonrecursive", "bind-create-src":
			value = "true"
		default:
			return fmt.Errorf("invalid field '%s' must be a key=value pair", field)
		}
	}
	if prefix, _, ok := strings.Cut(key, "-"); ok && p.is(prefix) {
		p.prefixes = append(p.prefixes, prefix)
	}
	m := &p.m
	switch key {
	case "type":
		m.Type = strings.ToLower(value)
	case "source", "src":
		m.Source = value
	case "target", "destination", "dst":
		var err error
		m.Target, err = cleanTarget(value)
		return err
	case "readonly", "ro":
		p.readOnly = true
		return parseFlag(key, value, &m.ReadOnly)
	case "rw", "readwrite":
		var rw bool
		err := parseFlag(key, value, &rw)
		p.readOnly, m.ReadOnly = true, !rw
		return err
	case "consistency":
	default:
		return p.special(key, value, field)
	}
	return nil
}

func (p *mountParser) is(prefix string) bool {
	return prefix == TypeBind || prefix == TypeVolume || prefix == TypeTmpfs || prefix == TypeImage
}

// special takes the keys that are for one type alone.
func (p *mountParser) special(key, value, field string) (err error) {
	m := &p.m
	switch key {
	case "bind-propagation":
		if m.Propagation = strings.ToLower(value); modeKind(m.Propagation) != "propagation" {
			err = fmt.Errorf("invalid propagation %q: want rprivate, private, rshared, shared, rslave or slave", value)
		}
	case "bind-nonrecursive":
		var non bool
		if err = parseFlag(key, value, &non); non {
			m.Recursive = RecursiveDisabled
		}
	case "bind-recursive":
		switch value {
		case "enabled":
			m.Recursive = ""
		case RecursiveDisabled, RecursiveWritable, RecursiveReadonly:
			m.Recursive = value
		default:
			err = fmt.Errorf(`invalid value for %s: %s (must be "enabled", "disabled", "writable", or "readonly")`, key, value)
		}
	case "bind-create-src":
		err = parseFlag(key, value, &m.CreateSource)
	case "volume-nocopy":
		err = parseFlag(key, value, &m.NoCopy)
	case "volume-driver":
		m.Driver = value
	case "volume-label":
		set(&m.Labels, value)
	case "volume-opt":
		set(&m.Options, value)
	case "volume-subpath", "image-subpath":
		m.Subpath, err = cleanSubpath(value)
	case "tmpfs-size":
		if m.Size, err = units.RAMInBytes(value); err != nil || m.Size < 0 {
			err = fmt.Errorf("invalid value for %s: %s", key, value)
		}
	case "tmpfs-mode":
		n, perr := strconv.ParseUint(value, 8, 32)
		if perr != nil || n > 0o7777 {
			return fmt.Errorf("invalid value for %s: %s: want octal digits", key, value)
		}
		perm := uint32(n)
		m.Perm = &perm
	default:
		err = fmt.Errorf("unexpected key '%s' in '%s'", key, field)
	}
	return err
}

// finish checks how the fields go together.
func (p *mountParser) finish() error {
	m := &p.m
	if !p.is(m.Type) {
		return fmt.Errorf("mount type unknown: %q: want bind, volume, tmpfs or image", m.Type)
	}
	if m.Target == "" {
		return errors.New("target is required")
	}
	for _, prefix := range p.prefixes {
		if prefix != m.Type {
			return fmt.Errorf("cannot mix '%s-*' options with mount type '%s'", prefix, m.Type)
		}
	}
	switch m.Type {
	case TypeBind:
		return p.finishBind()
	case TypeVolume:
		return m.checkVolume()
	case TypeTmpfs:
		if m.Source != "" {
			return errors.New(`invalid mount config for type "tmpfs": field Source must not be specified`)
		}
	case TypeImage:
		if m.Source == "" {
			return errors.New(`invalid mount config for type "image": field Source must not be empty`)
		}
		if !p.readOnly {
			m.ReadOnly = true // what is written would be lost, which is to be asked for
		}
	}
	return nil
}

func (p *mountParser) finishBind() error {
	m := &p.m
	if m.Source == "" {
		return errors.New(`invalid mount config for type "bind": field Source must not be empty`)
	}
	if strings.IndexByte(m.Source, 0) >= 0 {
		return errors.New("invalid mount path: there is a NUL in it")
	}
	switch first, _, _ := strings.Cut(m.Source, "/"); {
	case first == "." || first == "..":
		host, err := filepath.Abs(m.Source)
		if err != nil {
			return err
		}
		m.Source = host
	case first != "":
		return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", m.Source)
	}
	m.Source = filepath.Clean(m.Source)
	if err := readable(m.Source); err != nil {
		return err
	}
	switch {
	case m.Recursive == RecursiveWritable && !m.ReadOnly:
		return errors.New("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction")
	case m.Recursive == RecursiveReadonly && !m.ReadOnly:
		return errors.New("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
	case m.Recursive == RecursiveReadonly && m.Propagation != "rprivate":
		return errors.New("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")
	}
	return nil
}

// checkVolume checks what a mount says of its volume.
func (m *Mount) checkVolume() error {
	if m.Source != "" {
		if err := CheckName(m.Source); err != nil {
			return err
		}
	}
	if err := CheckDriver(m.Driver); err != nil {
		return err
	}
	return checkOptions(m.Options)
}

func parseFlag(key, value string, to *bool) error {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("invalid value for %s: %s: want true or false", key, value)
	}
	*to = b
	return nil
}

// set puts KEY=VALUE into a map that may not exist yet.
func set(to *map[string]string, pair string) {
	if *to == nil {
		*to = map[string]string{}
	}
	key, value, _ := strings.Cut(pair, "=")
	(*to)[key] = value
}

// cleanSubpath checks the part of a volume or image that is to be mounted.
func cleanSubpath(p string) (string, error) {
	if p == "" || strings.IndexByte(p, 0) >= 0 || !filepath.IsLocal(p) {
		return "", fmt.Errorf("invalid subpath %q: want a relative path that stays inside", p)
	}
	return filepath.Clean(p), nil
}
