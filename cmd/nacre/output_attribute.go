package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"nacre/internal/export"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/compressed"
)

// outputAttribute is one that --output takes, as BuildKit's exporters do.
type outputAttribute struct {
	key string
	of  string // the types that have it
	set func(o *target, value string) error
}

func outputAttributes() []outputAttribute {
	const images, all = "image docker oci", "image docker oci tar local cacheonly"
	return []outputAttribute{
		{"type", all, func(*target, string) error { return nil }},
		{"dest", "docker oci tar local", func(o *target, v string) error { o.dest = v; return nil }},
		{"name", images, (*target).setNames},
		{"tar", "docker oci", flag(func(o *target, on bool) { o.dir = !on })},
		{"compression", images, func(o *target, v string) error { return setCompression(&o.export.Compressed.Compression, v) }},
		{"compression-level", images, func(o *target, v string) error { return setLevel(&o.export.Compressed.Compression, v) }},
		{"force-compression", images, flag(func(o *target, on bool) { o.export.Compressed.Force = on })},
		{"oci-mediatypes", images, flag(func(o *target, on bool) {
			if o.docker = !on; on {
				o.export.Compressed.Types = compressed.OCI
			}
		})},
		{"rewrite-timestamp", images, flag(func(o *target, on bool) { o.rewrite = on })},
		{"source-date-epoch", images, func(o *target, v string) error {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return errors.New("want seconds since 1970")
			}
			t := time.Unix(n, 0).UTC()
			o.epoch = &t
			return nil
		}},
		{"name-canonical", "image", flag(func(o *target, on bool) { o.canonical = on })},
		{"dangling-name-prefix", "image", func(o *target, v string) error {
			ref, err := registry.ParseRef(v)
			if o.dangling = ref.Repo; err == nil && (ref.Digest != "" || strings.Contains(v, "@")) {
				err = errors.New("want the name of a repository")
			}
			return err
		}},
		{"store", "image", flag(func(o *target, on bool) { o.keep = on })},
		{"push", "image", flag(func(o *target, on bool) { o.push = on })},
		{"push-by-digest", "image", flag(func(o *target, on bool) { o.byDigest = on })},
		{"registry.insecure", "image", flag(func(o *target, on bool) { o.insecure = on })},
		{"insecure", "image", flag(func(o *target, on bool) { o.insecure = on })},
		{"unpack", "image", flag(func(*target, bool) {})}, // every image in the store can be run as it is
		{"prefer-nondist-layers", images, flag(func(*target, bool) {})},
		{"platform-split", "tar local", flag(func(o *target, on bool) { o.split = on })},
	}
}

// setCompression is the attribute compression.
func setCompression(c *layer.Compression, v string) error {
	c.Kind = v
	_, err := layer.Compression{Kind: v}.Normal()
	if v == "" {
		err = errors.New("want gzip, zstd, estargz or uncompressed")
	}
	return err
}

// setLevel is the attribute compression-level.
func setLevel(c *layer.Compression, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return errors.New("want a number: 0 to 9 for gzip and estargz, 0 to 22 for zstd")
	}
	if c.Level = n; n == 0 {
		c.Level = layer.LevelStored
	}
	return nil
}

// flag sets what is true or false; nothing after the "=" is true.
func flag(set func(o *target, on bool)) func(*target, string) error {
	return func(o *target, v string) error {
		on, err := strconv.ParseBool(v)
		if v == "" {
			on, err = true, nil
		}
		if err != nil {
			return errors.New("want true or false")
		}
		set(o, on)
		return nil
	}
}

func (o *target) setNames(value string) error {
	for name := range strings.SplitSeq(value, ",") {
		ref, err := registry.ParseRef(name)
		if err != nil {
			return err
		}
		o.names = append(o.names, ref)
	}
	return nil
}

// annotationPlaces are the names that annotations of each place have in --output and --annotation.
var annotationPlaces = []struct {
	name  string
	place export.Place
}{
	{"manifest", export.Manifest}, {"manifest-descriptor", export.ManifestDescriptor},
	{"index", export.Index}, {"index-descriptor", export.IndexDescriptor},
}

func annotationPlace(name string) (export.Place, error) {
	var names []string
	for _, p := range annotationPlaces {
		if p.name == name {
			return p.place, nil
		}
		names = append(names, p.name)
	}
	return 0, suggest(fmt.Errorf("there are no annotations of type %q; what there is: %s", name, strings.Join(names, ", ")), name, names)
}

// parseAnnotationKey reads annotation.KEY, annotation-PLACE.KEY and annotation-PLACE[PLATFORM].KEY.
func parseAnnotationKey(s string) (n export.Annotation, err error) {
	rest := strings.TrimPrefix(s, "annotation")
	end := strings.IndexAny(rest, ".[")
	if end < 0 {
		return n, fmt.Errorf("%s: want annotation.KEY, annotation-manifest.KEY or annotation[PLATFORM].KEY", s)
	}
	if place := rest[:end]; place != "" {
		if n.Place, err = annotationPlace(strings.TrimPrefix(place, "-")); err != nil {
			return n, err
		}
	}
	rest = rest[end:]
	if platform, ok := strings.CutPrefix(rest, "["); ok {
		platform, rest, ok = strings.Cut(platform, "]")
		if !ok {
			return n, fmt.Errorf("%s: the ] is missing", s)
		}
		p, err := parsePlatform(platform)
		if err != nil {
			return n, fmt.Errorf("%s: %q is no platform, such as linux/amd64", s, platform)
		}
		n.Platform = &p
	}
	key, ok := strings.CutPrefix(rest, ".")
	if n.Key = key; !ok || key == "" {
		err = fmt.Errorf("%s: the key is missing", s)
	}
	return n, err
}

// parseAnnotations reads --annotation: [TYPE[,TYPE...][[PLATFORM]]:]KEY=VALUE.
func parseAnnotations(list []string) (out export.Annotations, err error) {
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--annotation %q: want [TYPE:]KEY=VALUE", s)
		}
		types, platform := "manifest", ""
		if before, after, ok := strings.Cut(key, ":"); ok && strings.Trim(strings.ToLower(before), "abcdefghijklmnopqrstuvwxyz0123456789-,/[]_") == "" {
			types, key = before, after
			if at := strings.IndexByte(types, '['); at >= 0 {
				types, platform = types[:at], types[at:]
			}
		}
		for t := range strings.SplitSeq(types, ",") {
			if t != "" {
				t = "-" + strings.TrimSpace(t)
			}
			n, err := parseAnnotationKey("annotation" + t + platform + "." + key)
			var hint *hintError
			if errors.As(err, &hint) {
				return nil, &hintError{fmt.Errorf("--annotation %q: %w", s, hint.err), hint.hint}
			}
			if err != nil {
				return nil, fmt.Errorf("--annotation %q: %w", s, err)
			}
			n.Value = value
			out = append(out, n)
		}
	}
	return out, nil
}
