package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"nacre/internal/build"
	"nacre/internal/dockerfile"
	"nacre/internal/export"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/compressed"
)

// target is one --output as given.
type target struct {
	text  string // as given, for messages
	kind  string // image, docker, oci, tar, local or cacheonly
	dest  string // "-" is standard output; empty: the store
	names []registry.Ref
	dir   bool // oci: a layout in a directory (tar=false)
	split bool // tar, local: in a folder named after the platform

	// Of images.
	export    export.Options
	docker    bool // docker's media types were asked for
	rewrite   bool // times of files too
	epoch     *time.Time
	canonical bool   // a name by digest too
	dangling  string // a repository to name it in by its digest where it has no name
	keep      bool   // in the store
	push      bool   // to the registries of its names
	byDigest  bool   // under no tag
	insecure  bool   // whatever certificate these have, or none

	out *export.Image // what was written; nil before, and of tar and local
}

// parseOutput reads `type=oci,dest=x.tar`, or the short forms DIR and "-".
func parseOutput(s string) (*target, error) {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return nil, fmt.Errorf("--output %q: %w", s, err)
	}
	o := &target{text: s, keep: true}
	if len(fields) == 1 && !strings.Contains(s, "=") {
		o.kind, o.dest = "local", s
		if s == "-" {
			o.kind = "tar"
		}
		return o, nil
	}
	given := map[string]string{}
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, o.errorf("want KEY=VALUE, not %q", f)
		}
		if !strings.HasPrefix(strings.ToLower(key), "annotation") {
			key = strings.ToLower(strings.TrimSpace(key))
		}
		given[key] = value
		if key == "type" {
			o.kind = value
		}
	}
	if err := o.checkKind(); err != nil {
		return nil, err
	}
	if o.kind == "registry" { // is an image that is pushed
		o.kind, o.push = "image", true
	}
	for _, f := range fields { // in their order
		key, _, _ := strings.Cut(f, "=")
		if !strings.HasPrefix(strings.ToLower(key), "annotation") {
			key = strings.ToLower(strings.TrimSpace(key))
		}
		if err := o.set(key, given[key]); err != nil {
			return nil, err
		}
	}
	return o, o.check()
}

func (o *target) errorf(format string, args ...any) error {
	return fmt.Errorf("--output %q: "+format, append([]any{o.text}, args...)...)
}

// outputKinds are the types there are.
var outputKinds = []string{"image", "registry", "docker", "oci", "tar", "local", "cacheonly"}

func (o *target) checkKind() error {
	if slices.Contains(outputKinds, o.kind) {
		return nil
	}
	if o.kind == "" {
		return o.errorf("type is missing")
	}
	err := o.errorf("type=%s is not supported; what is: %s", o.kind, strings.Join(outputKinds, ", "))
	return suggest(err, o.kind, outputKinds)
}

// suggest adds the nearest of what there is to an error about what there is not.
func suggest(err error, word string, options []string) error {
	if hint := dockerfile.DidYouMean(word, options); hint != "" {
		return &hintError{err, hint}
	}
	return err
}

// set gives o what one attribute says.
func (o *target) set(key, value string) error {
	if strings.HasPrefix(key, "annotation") && o.isImage() {
		n, err := parseAnnotationKey(key)
		if err != nil {
			return o.errorf("%w", err)
		}
		n.Value = value
		o.export.Annotations = append(o.export.Annotations, n)
		return nil
	}
	var names []string
	for _, a := range outputAttributes() {
		if !strings.Contains(a.of, o.kind) {
			continue
		}
		if a.key == key {
			if err := a.set(o, value); err != nil {
				return o.errorf("%s=%s: %w", key, value, err)
			}
			return nil
		}
		names = append(names, a.key)
	}
	if o.isImage() {
		names = append(names, "annotation.KEY")
	}
	err := o.errorf("type=%s has no %s; what it has: %s", o.kind, key, strings.Join(names, ", "))
	return suggest(err, key, names)
}

// isImage tells whether the output is an image, and not its files.
func (o *target) isImage() bool { return o.kind == "image" || o.kind == "docker" || o.kind == "oci" }

// check looks at what attributes ask for together.
func (o *target) check() error {
	switch {
	case o.dest == "" && (o.kind == "oci" || o.kind == "tar" || o.kind == "local"):
		return o.errorf("type=%s needs dest", o.kind)
	case o.kind == "local" && o.dest == "-":
		return o.errorf("a directory cannot be written to standard output: use type=tar")
	case o.dir && (o.kind != "oci" || o.dest == "-"):
		return o.errorf("tar=false is for type=oci with a directory")
	case o.epoch != nil && !o.rewrite:
		return o.errorf("source-date-epoch is for rewrite-timestamp=true; the build argument SOURCE_DATE_EPOCH is for all that is built")
	}
	c := &o.export.Compressed
	if c.Compression.Kind == "zstd" && c.Compression.Level == layer.LevelStored {
		c.Compression.Level = 1 // the level 0 of zstd is its fastest here
	}
	if _, err := c.Compression.Normal(); err != nil && c.Compression.Kind != "" {
		return o.errorf("%w", err)
	}
	return nil
}

// finish works out what is exported, when it is known what all flags ask for.
func (o *target) finish() {
	c := &o.export.Compressed
	if c.Compression.Kind == "" && c.Compression.Level != 0 {
		c.Compression.Kind = layer.Gzip
	}
	o.export.Compress = c.Compression.Kind != "" || c.Force
	// As BuildKit does: docker's media types know neither of these.
	if o.docker && c.Compression.Kind != layer.Zstd && c.Compression.Kind != layer.EStargz && len(o.export.Annotations) == 0 {
		c.Types = compressed.Docker
		if !o.export.Compress && !o.push { // what is pushed is compressed anyway
			c.Compression.Kind = layer.Uncompressed
		}
		o.export.Compress = true
	}
}

// stored tells whether the image goes into the store.
func (o *target) stored() bool {
	return o.keep && (o.kind == "image" || o.kind == "docker" && o.dest == "")
}

// plain tells whether the image is what the build makes anyway.
func (o *target) plain() bool {
	return o.stored() && !o.export.Changes() && !o.rewrite && !o.canonical && o.dangling == ""
}

// parseOutputs gives the builder what --output and --annotation ask for.
func (f buildFlags) parseOutputs(o *build.Options) ([]*target, error) {
	var list []*target
	stdout := 0
	for _, s := range f.outputs {
		out, err := parseOutput(s)
		if err != nil {
			return nil, err
		}
		if out.dest == "-" {
			stdout++
		}
		list = append(list, out)
	}
	if stdout > 1 || stdout == 1 && f.quiet {
		return nil, errors.New("--output: standard output can have one thing only")
	}
	notes, err := parseAnnotations(f.annotations)
	if err != nil {
		return nil, err
	}
	if len(notes) > 0 && len(list) == 0 {
		list = append(list, &target{kind: "image", keep: true})
	}
	if f.push {
		if list, err = pushAll(list); err != nil {
			return nil, err
		}
	}
	o.NoImage = len(list) > 0
	for _, out := range list {
		if out.isImage() {
			out.export.Annotations = append(out.export.Annotations, notes...)
			out.finish()
		}
		if out.export.Annotations.NeedIndex() && !strings.Contains(f.platform, ",") {
			return nil, &hintError{export.ErrNoIndex, "manifest: and manifest-descriptor: annotate the image itself"}
		}
		if out.plain() {
			o.NoImage = false
			o.Names = append(o.Names, out.names...)
		}
	}
	return list, checkPush(o, list)
}
