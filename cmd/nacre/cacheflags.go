package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"nacre/internal/build"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/s3"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

// cacheFlags are --cache-from and --cache-to.
type cacheFlags struct{ from, to []string }

func (c *cacheFlags) register(fl *pflag.FlagSet) {
	listVar(fl, &c.from, "cache-from", "", "type=local,src=DIR, type=registry,ref=NAME or type=s3,bucket=BUCKET: cache of an earlier build to look into (mounts=true: what RUN --mount=type=cache keeps, too); may be repeated")
	listVar(fl, &c.to, "cache-to", "", "type=local,dest=DIR, type=registry,ref=NAME[,mode=min|max], type=s3,bucket=BUCKET or type=inline: where to write this build's cache (mounts=true: with what RUN --mount=type=cache keeps); may be repeated")
}

func (c *cacheFlags) apply(a *app, o *build.Options) error {
	for _, s := range c.from {
		e, err := parseCache(a, "--cache-from", s, "src")
		if err != nil {
			return err
		}
		for _, e := range e.each() {
			o.CacheFrom = append(o.CacheFrom, build.CacheFrom{Name: e.String(), Open: e.reader, Mounts: e.mounts})
		}
	}
	for _, s := range c.to {
		e, err := parseCache(a, "--cache-to", s, "dest")
		if err != nil {
			return err
		}
		if e.kind == "inline" {
			o.InlineCache = true
			continue
		}
		for _, e := range e.each() {
			o.CacheTo = append(o.CacheTo, build.CacheTo{
				Name: e.String(), Open: e.writer, Tidy: tidyLayout, Max: e.max, Mounts: e.mounts, IgnoreError: e.ignoreError, Compression: e.compression, Force: e.force,
			})
		}
	}
	return nil
}

// cacheEntry is one of these flags as given.
type cacheEntry struct {
	app              *app
	kind, dir        string
	ref              registry.Ref // of a layout: the tag alone
	max, ignoreError bool
	compression      layer.Compression
	force            bool
	mounts           build.MountChoice
	s3               s3.Options
	given            map[string]bool // attributes of s3
	names            []string        // s3
}

// each is e once for every name that it has.
func (e cacheEntry) each() []cacheEntry {
	if e.kind != "s3" {
		return []cacheEntry{e}
	}
	var list []cacheEntry
	for _, name := range e.names {
		e.ref.Tag = name
		list = append(list, e)
	}
	return list
}

func (e cacheEntry) String() string {
	if e.kind == "s3" {
		return "s3 " + e.s3.Bucket + "/" + e.s3.Prefix + " " + e.ref.Tag
	}
	if e.kind == "registry" {
		return e.ref.Familiar()
	}
	return e.kind + " " + e.dir
}

// parseCache reads `type=local,dest=DIR,mode=max`, or the short form NAME of type=registry; place is what
// the folder is called. Names of attributes are BuildKit's.
func parseCache(a *app, flag, s, place string) (cacheEntry, error) {
	// Only nacre reads it, so that it may be what is fast for its size.
	e := cacheEntry{app: a, ref: registry.Ref{Tag: "latest"}, compression: layer.Compression{Kind: layer.Zstd}}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err == nil && len(fields) == 1 && !strings.Contains(s, "=") {
		fields = []string{"type=registry", "ref=" + s}
	}
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			err = fmt.Errorf("want KEY=VALUE, not %q", f)
		} else if err == nil {
			err = e.set(strings.ToLower(key), value, place)
		}
	}
	if err == nil {
		err = e.check(place)
	}
	if err != nil {
		return e, fmt.Errorf("%s %q: %w", flag, hideSecrets(s), err)
	}
	return e, nil
}

// set reads one attribute.
func (e *cacheEntry) set(key, value, place string) (err error) {
	to := place == "dest"
	if known, err := e.setS3(key, value); known {
		if err != nil {
			err = fmt.Errorf("%s=%s: %w", key, value, err)
		}
		return err
	}
	switch {
	case key == "type":
		e.kind = value
	case key == place:
		e.dir = value
	case key == "ref":
		e.ref, err = registry.ParseRef(value)
	case key == "tag":
		e.ref.Tag = value
	case key == "digest" && !to:
		e.ref.Digest, err = digest.Parse(value)
	case key == "mode" && to:
		if value != "min" && value != "max" {
			err = errors.New("want min or max")
		}
		e.max = value == "max"
	case key == "mounts":
		e.mounts = parseMounts(value)
	case key == "compression" && to:
		err = setCompression(&e.compression, value)
	case key == "compression-level" && to:
		err = setLevel(&e.compression, value)
	case key == "force-compression" && to:
		e.force, err = strconv.ParseBool(value)
	case key == "ignore-error" && to:
		e.ignoreError, err = strconv.ParseBool(value)
	default:
		return fmt.Errorf("%s is not known; what is: %s", key, known(place))
	}
	if err != nil {
		return fmt.Errorf("%s=%s: %w", key, value, err)
	}
	return nil
}

func (e *cacheEntry) check(place string) error {
	if _, err := e.compression.Normal(); err != nil {
		return err
	}
	if e.compression.Kind == layer.EStargz {
		return errors.New("compression=estargz changes layers: want gzip, zstd or uncompressed")
	}
	if e.kind != "s3" && (len(e.given) > 0 || len(e.names) > 0) {
		return fmt.Errorf("type=%s has none of the attributes of type=s3", e.kind)
	}
	switch e.kind {
	case "s3":
		return e.checkS3()
	case "":
		return errors.New("type is missing")
	case "local":
		if e.dir == "" {
			return fmt.Errorf("%s is missing: the folder of the cache", place)
		}
		if e.ref.Repo != "" {
			return errors.New("ref is for type=registry")
		}
	case "registry":
		if e.ref.Repo == "" {
			return errors.New("ref is missing: the name of the cache in a registry")
		}
		if e.dir != "" {
			return fmt.Errorf("%s is for type=local", place)
		}
	case "inline":
		if place != "dest" {
			return errors.New("type=inline is for --cache-to; type=registry,ref=NAME reads it")
		}
		if e.mounts.All || len(e.mounts.IDs) > 0 {
			return errors.New("type=inline takes no mounts: whoever runs the image would get the directories with it; want local, registry or s3")
		}
		if e.max || e.dir != "" || e.ref.Repo != "" {
			return errors.New("type=inline has no other attributes: the image has its own layers alone (mode=min)")
		}
	default:
		return fmt.Errorf("type=%s is not supported; what is: inline, local, registry, s3", e.kind)
	}
	return nil
}

// parseMounts reads "true", or the IDs of caches, with ";" between them or, where the shell's quotes leave it to us, ",".
func parseMounts(value string) build.MountChoice {
	if on, err := strconv.ParseBool(value); err == nil {
		return build.MountChoice{All: on}
	}
	return build.MountChoice{IDs: strings.FieldsFunc(value, func(r rune) bool { return r == ';' || r == ',' })}
}

func known(place string) string {
	if place == "src" {
		return "type, src, tag, digest, ref, mounts; of s3: " + knownS3()
	}
	return "type, dest, tag, ref, mode, mounts, ignore-error, compression, compression-level, force-compression; of s3: " + knownS3()
}

// away is where a cache is that is in no folder: the same to read from and to write to.
func (e cacheEntry) away(ctx context.Context) (interface {
	registry.Reader
	registry.Writer
}, error) {
	if e.kind == "s3" {
		return s3.New(e.s3)
	}
	return e.app.remote(ctx)
}

func (e cacheEntry) reader(ctx context.Context) (registry.Reader, registry.Ref, error) {
	if e.kind == "s3" || e.kind == "registry" {
		r, err := e.away(ctx)
		return r, e.ref, err
	}
	l, err := layout.Open(e.dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s: %w", e.dir, registry.ErrAbsent)
	}
	return l, e.ref, err
}

// tidyLayout removes from a folder what caches written there before had and the last has not.
func tidyLayout(ctx context.Context, w registry.Writer) error {
	l, ok := w.(*layout.Layout)
	if !ok {
		return nil
	}
	_, _, err := l.Collect(ctx, time.Now())
	return err
}

func (e cacheEntry) writer(ctx context.Context) (registry.Writer, registry.Ref, error) {
	if e.kind == "s3" || e.kind == "registry" {
		r, err := e.away(ctx)
		return r, e.ref, err
	}
	l, err := layout.Create(e.dir)
	return l, e.ref, err
}
