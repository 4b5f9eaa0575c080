package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"text/template"

	"nacre/internal/container"
	"nacre/internal/image"
	"nacre/internal/reference"
	"nacre/internal/registry"
	"nacre/internal/volume"

	"github.com/spf13/cobra"
)

// inspectTypes are what inspect knows, in the order in which a name is looked for.
var inspectTypes = [...]string{"container", "image", "volume"}

type inspectFlags struct {
	format, kind, platform string
	size                   bool
}

func inspectCommand(a *app) *cobra.Command {
	var f inspectFlags
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] NAME|ID [NAME|ID...]",
		Short: "Show everything known of containers, images and volumes as JSON",
		Long: `Show everything known of containers, images and volumes, as one JSON array in docker's shape. A name is looked for
among containers first, then among images, then among volumes. What is found is shown, and the exit code is 1 where
something is not.`,
		Example: `  nacre inspect web:1
  nacre inspect -f '{{.Config.User}} {{json .Config.Env}}' web:1
  nacre inspect --type volume -f '{{.Mountpoint}}' data`,
		Args: minArgs(1, "inspect needs at least one name or ID"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			names, _ := a.completeContainers(nil)(cmd, args, prefix)
			images, _ := a.completeImages(cmd, args, prefix)
			volumes, directive := a.completeVolumes(cmd, args, prefix)
			return slices.Concat(names, images, volumes), directive
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("type") && !slices.Contains(inspectTypes[:], f.kind) {
				return fmt.Errorf("unknown type: %q: must be one of %q", f.kind, inspectTypes)
			}
			p, err := optionalPlatform(f.platform)
			if err != nil {
				return err
			}
			return runInspect(a, f.format, args, func(name string) (any, error) { return a.inspectAny(cmd.Context(), f, p, name) })
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.kind, "type", "", "what is inspected: container, image or volume (default: what has that name)")
	cmd.Flags().BoolVarP(&f.size, "size", "s", false, "also what a container takes of the disk")
	return cmd
}

// imageInspectCommand is inspect of images alone.
func imageInspectCommand(a *app) *cobra.Command {
	var f inspectFlags
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] IMAGE [IMAGE...]",
		Short: "Show everything known of images as JSON",
		Example: `  nacre image inspect web:1
  nacre image inspect --platform linux/arm64 -f '{{.Id}}' web:1`,
		Args:              minArgs(1, "inspect needs at least one image"),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := optionalPlatform(f.platform)
			if err != nil {
				return err
			}
			return runInspect(a, f.format, args, func(name string) (any, error) { return inspectImage(cmd.Context(), a, name, p) })
		},
	}
	f.register(cmd)
	return cmd
}

func (f *inspectFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.format, "format", "f", "", `"json" or a Go template`)
	cmd.Flags().StringVar(&f.platform, "platform", "", "which image of an index (default: this machine's)")
}

// optionalPlatform is that of a --platform flag, or nil.
func optionalPlatform(s string) (*image.Platform, error) {
	if s == "" {
		return nil, nil
	}
	p, err := parsePlatform(s)
	return &p, err
}

// inspectAny inspects what has a name, of the kind that is wanted or of any.
func (a *app) inspectAny(ctx context.Context, f inspectFlags, p *image.Platform, name string) (any, error) {
	for _, kind := range inspectTypes {
		if f.kind != "" && f.kind != kind {
			continue
		}
		var v any
		var err error
		switch kind {
		case "container":
			v, err = a.inspectContainer(ctx, name, f.size)
		case "image":
			v, err = inspectImage(ctx, a, name, p)
		case "volume":
			v, err = a.inspectVolume(ctx, name)
		}
		if f.kind == "" && isNot(err) {
			continue
		}
		if err == nil && f.size && kind != "container" {
			a.warnf("--size ignored for %s", kind) // docker's words
		}
		return v, err
	}
	return nil, &hintError{fmt.Errorf("no such object: %s", name), "nacre ps -a, nacre images and nacre volume ls list what there is"}
}

// isNot tells whether err means that nothing of a kind has the name that was asked for.
func isNot(err error) bool {
	var none *absentError
	return errors.Is(err, container.ErrNotFound) || errors.As(err, &none) || errors.Is(err, volume.ErrAbsent) ||
		errors.Is(err, reference.ErrFormat) || errors.Is(err, reference.ErrUppercase) || errors.Is(err, reference.ErrLong)
}

// runInspect shows what it can and fails at the end for what it could not find, as docker does.
func runInspect(a *app, format string, names []string, inspect func(name string) (any, error)) error {
	var t *template.Template
	if format != "" && format != "json" {
		var err error
		if t, err = parseTemplate(format); err != nil {
			return &exitError{64, err} // docker's code
		}
	}
	found := []any{}
	var failed several
	var text bytes.Buffer
	for _, name := range names {
		v, err := inspect(name)
		if err == nil && t != nil {
			err = execute(&text, t, v)
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		found = append(found, v)
	}
	var err error
	switch {
	case format == "":
		err = writeJSON(&text, found, "    ")
	case format == "json":
		err = writeJSON(&text, found, "")
	case text.Len() == 0:
		text.WriteByte('\n') // as docker
	}
	if err != nil {
		return err
	}
	out := text.Bytes()
	if t == nil {
		out = escapedJSON(out)
	}
	if _, err := a.stdout.Write(out); err != nil {
		return err
	}
	return failed.orNil()
}

// execute adds what t makes of v, and a line's end; nothing where it fails.
func execute(b *bytes.Buffer, t *template.Template, v any) error {
	begin := b.Len()
	err := t.Execute(b, v)
	if err != nil {
		b.Truncate(begin)
		if executeRaw(b, t, v) != nil {
			b.Truncate(begin)
			return badTemplate(err, nil)
		}
	}
	b.WriteByte('\n')
	return nil
}

// executeRaw is for fields that have another name in the JSON than here.
func executeRaw(b *bytes.Buffer, t *template.Template, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var raw any
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	strict, err := t.Clone()
	if err != nil {
		return err
	}
	return strict.Option("missingkey=error").Execute(b, raw)
}

// writeJSON writes v and a line's end; of an empty list docker's brackets.
func writeJSON(b *bytes.Buffer, v any, indent string) error {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	return enc.Encode(v)
}

// platformImage reads the manifest and the config of an image for p, with words for one that is not here. p is nil for
// this machine's.
func (a *app) platformImage(ctx context.Context, name string, p *image.Platform) (out platformImage, err error) {
	if out.Image, err = a.image(ctx, name); err != nil {
		return out, err
	}
	if out.manifest, out.desc, err = a.opened.Manifest(ctx, out.Image, p); err != nil {
		gone := (*absentError)(nil)
		if err = a.gone(ctx, name, out.Image, err); p != nil && errors.Is(err, registry.ErrAbsent) && !errors.As(err, &gone) {
			err = &hintError{fmt.Errorf("%s: %w", name, err), "nacre pull --platform " + image.FormatPlatform(*p) + " fetches it"}
		}
		return out, err
	}
	if out.config, out.raw, err = a.opened.Config(ctx, out.manifest.Config); err == nil && p != nil && !image.IsIndex(out.Image.Target.MediaType) {
		err = checkPlatform(name, out.config, *p) // an index decides what its images are for
	}
	return out, a.gone(ctx, name, out.Image, err)
}
