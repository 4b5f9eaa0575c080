package main

import (
	"context"
	"crypto/rand"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"nacre/internal/build"
	"nacre/internal/registry"
	"nacre/internal/registry/archive"
	"nacre/internal/registry/layout"

	"golang.org/x/term"
)

// target is one --output as given.
type target struct {
	kind  string // image, docker, oci, tar or local
	dest  string // "-" is standard output; empty: the store
	names []registry.Ref
	dir   bool // oci: a layout in a directory (tar=false)
}

// parseOutput reads `type=oci,dest=x.tar`, or the short forms DIR and "-".
func parseOutput(s string) (target, error) {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return target{}, fmt.Errorf("--output %q: %w", s, err)
	}
	if len(fields) == 1 && !strings.Contains(s, "=") {
		if s == "-" {
			return target{kind: "tar", dest: "-"}, nil
		}
		return target{kind: "local", dest: s}, nil
	}
	var o target
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return target{}, fmt.Errorf("--output %q: want KEY=VALUE, not %q", s, f)
		}
		switch strings.ToLower(key) {
		case "type":
			o.kind = value
		case "dest":
			o.dest = value
		case "name":
			for name := range strings.SplitSeq(value, ",") {
				ref, err := registry.ParseRef(name)
				if err != nil {
					return target{}, fmt.Errorf("--output %q: %w", s, err)
				}
				o.names = append(o.names, ref)
			}
		case "tar":
			if value != "true" && value != "false" {
				return target{}, fmt.Errorf("--output %q: tar=%s: want true or false", s, value)
			}
			o.dir = value == "false"
		default:
			return target{}, fmt.Errorf("--output %q: %s is not supported; what is: type, dest, name, tar", s, key)
		}
	}
	return o, o.check(s)
}

func (o target) check(s string) error {
	wants := ""
	switch o.kind {
	case "image":
		if o.dest != "" {
			wants = "type=image is kept in the store and has no dest"
		}
	case "docker":
	case "oci", "tar", "local":
		if o.dest == "" {
			wants = "type=" + o.kind + " needs dest"
		} else if o.kind == "local" && o.dest == "-" {
			wants = "a directory cannot be written to standard output: use type=tar"
		}
	case "":
		wants = "type is missing"
	default:
		wants = fmt.Sprintf("type=%s is not supported; what is: image, docker, oci, tar, local", o.kind)
	}
	if o.dir && (o.kind != "oci" || o.dest == "-") {
		wants = "tar=false is for type=oci with a directory"
	}
	if wants != "" {
		return fmt.Errorf("--output %q: %s", s, wants)
	}
	return nil
}

// stored tells whether the image goes into the store.
func (o target) stored() bool { return o.kind == "image" || o.kind == "docker" && o.dest == "" }

// outputs gives the builder what --output asks for.
func (f buildFlags) parseOutputs(o *build.Options) ([]target, error) {
	var list []target
	stdout := 0
	o.NoImage = len(f.outputs) > 0
	for _, s := range f.outputs {
		out, err := parseOutput(s)
		if err != nil {
			return nil, err
		}
		if out.dest == "-" {
			stdout++
		}
		if out.stored() {
			o.NoImage = false
			o.Names = append(o.Names, out.names...)
		}
		list = append(list, out)
	}
	if stdout > 1 || stdout == 1 && f.quiet {
		return nil, errors.New("--output: standard output can have one thing only")
	}
	return list, nil
}

// addOutputs is what the builder does for those that are not the store.
func addOutputs(a *app, o *build.Options, list []target) error {
	for _, out := range list {
		if out.stored() {
			continue
		}
		if out.dest == "-" && term.IsTerminal(int(a.stdout.file.Fd())) {
			return &hintError{errors.New("an archive is not for a terminal"), "name a file with dest=, or redirect"}
		}
		names := append(o.Names[:len(o.Names):len(o.Names)], out.names...)
		o.Outputs = append(o.Outputs, build.Output{
			Name:  fmt.Sprintf("exporting to %s %s", out.kind, out.dest),
			Write: func(ctx context.Context, r build.Result) error { return out.write(ctx, a, names, r) },
		})
	}
	return nil
}

func (o target) write(ctx context.Context, a *app, names []registry.Ref, r build.Result) error {
	if o.kind == "local" {
		return build.WriteDir(ctx, r.Root, o.dest)
	}
	if o.dir {
		l, err := layout.Create(o.dest)
		if err != nil {
			return err
		}
		return copyBuilt(ctx, l, names, r)
	}
	write := func(w io.Writer) error {
		if o.kind == "tar" {
			return build.WriteTar(ctx, a.opened, r.Root, w)
		}
		kind := archive.OCI
		if o.kind == "docker" {
			kind = archive.Docker
		}
		dst := archive.Create(w, kind)
		if err := copyBuilt(ctx, dst, names, r); err != nil {
			return err
		}
		return dst.Close()
	}
	if o.dest == "-" {
		return write(a.stdout)
	}
	return replaceFile(o.dest, write)
}

// copyBuilt copies the image under each of its names, or under none.
func copyBuilt(ctx context.Context, dst registry.Writer, names []registry.Ref, r build.Result) error {
	from := registry.Ref{Digest: r.Manifest.Digest}
	if len(names) == 0 {
		names = []registry.Ref{from}
	}
	for _, name := range names {
		if _, err := registry.Copy(ctx, dst, name, r.Reader, from, registry.CopyOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// writeMetadata writes --metadata-file, with the keys that BuildKit's clients look for.
func writeMetadata(path string, r build.Result, list []target) error {
	id := strings.ToLower(rand.Text())
	m := map[string]any{"buildx.build.ref": "default/default/" + id}
	image := len(list) == 0
	names := r.Names
	for _, o := range list {
		image = image || o.kind != "local" && o.kind != "tar"
		if !o.stored() {
			names = append(names[:len(names):len(names)], o.names...)
		}
	}
	if image {
		m["containerimage.config.digest"] = r.Config
		m["containerimage.digest"] = r.Manifest.Digest
		m["containerimage.descriptor"] = r.Manifest
		var full []string
		for _, n := range names {
			full = append(full, n.String())
		}
		if len(full) > 0 {
			m["image.name"] = strings.Join(full, ",")
		}
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
