package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"nacre/internal/build"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/layout"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

// cacheFlags are --cache-from and --cache-to.
type cacheFlags struct{ from, to []string }

func (c *cacheFlags) register(fl *pflag.FlagSet) {
	fl.StringArrayVar(&c.from, "cache-from", nil, "type=local,src=DIR: cache of an earlier build to look into; may be repeated")
	fl.StringArrayVar(&c.to, "cache-to", nil, "type=local,dest=DIR[,mode=min|max]: where to write this build's cache; may be repeated")
}

func (c *cacheFlags) apply(o *build.Options) error {
	for _, s := range c.from {
		e, err := parseCache("--cache-from", s, "src")
		if err != nil {
			return err
		}
		o.CacheFrom = append(o.CacheFrom, build.CacheFrom{Name: e.String(), Open: e.reader})
	}
	for _, s := range c.to {
		e, err := parseCache("--cache-to", s, "dest")
		if err != nil {
			return err
		}
		o.CacheTo = append(o.CacheTo, build.CacheTo{Name: e.String(), Open: e.writer, Max: e.max, IgnoreError: e.ignoreError, Compression: cacheCompression})
	}
	return nil
}

// cacheCompression: only nacre reads it, so it may be what is fast for its size.
var cacheCompression = layer.Compression{Kind: layer.Zstd}

// cacheEntry is one of these flags as given.
type cacheEntry struct {
	kind, dir        string
	ref              registry.Ref
	max, ignoreError bool
}

func (e cacheEntry) String() string { return e.kind + " " + e.dir }

// parseCache reads `type=local,dest=DIR,mode=max`; place is what the folder is called. Names
// of attributes are BuildKit's.
func parseCache(flag, s, place string) (cacheEntry, error) {
	e := cacheEntry{ref: registry.Ref{Tag: "latest"}}
	fail := func(format string, args ...any) (cacheEntry, error) {
		return e, fmt.Errorf("%s %q: %s", flag, s, fmt.Sprintf(format, args...))
	}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return fail("%v", err)
	}
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return fail("want KEY=VALUE, not %q", f)
		}
		switch key = strings.ToLower(key); {
		case key == "type":
			e.kind = value
		case key == place:
			e.dir = value
		case key == "tag":
			e.ref.Tag = value
		case key == "digest" && place == "src":
			if e.ref.Digest, err = digest.Parse(value); err != nil {
				return fail("digest=%s: %v", value, err)
			}
		case key == "mode" && place == "dest":
			if value != "min" && value != "max" {
				return fail("mode=%s: want min or max", value)
			}
			e.max = value == "max"
		case key == "ignore-error" && place == "dest":
			if e.ignoreError, err = strconv.ParseBool(value); err != nil {
				return fail("ignore-error=%s: want true or false", value)
			}
		default:
			return fail("%s is not known; what is: %s", key, known(place))
		}
	}
	switch {
	case e.kind == "":
		return fail("type is missing")
	case e.kind != "local":
		return fail("type=%s is not supported; what is: local", e.kind)
	case e.dir == "":
		return fail("%s is missing: the folder of the cache", place)
	}
	return e, nil
}

func known(place string) string {
	if place == "src" {
		return "type, src, tag, digest"
	}
	return "type, dest, tag, mode, ignore-error"
}

func (e cacheEntry) reader(context.Context) (registry.Reader, registry.Ref, error) {
	l, err := layout.Open(e.dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s: %w", e.dir, registry.ErrAbsent)
	}
	return l, e.ref, err
}

func (e cacheEntry) writer(context.Context) (registry.Writer, registry.Ref, error) {
	l, err := layout.Create(e.dir)
	return l, e.ref, err
}
