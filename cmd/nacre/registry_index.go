package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/spf13/cobra"
)

// indexFlags are those of registry index as given.
type indexFlags struct {
	names, annotations []string
	append, dry, quiet bool
	progress           string
}

func registryIndexCommand(a *app) *cobra.Command {
	var f indexFlags
	cmd := &cobra.Command{
		Use:     "index -t NAME [OPTIONS] IMAGE [IMAGE...]",
		Aliases: []string{"create"},
		Short:   "Make one image for several platforms of images in registries",
		Long: `Make an index of images in registries, and give it names. Of images that are indexes
themselves the images they list are taken. Of several for one platform the last counts. What is
in other repositories is copied to those of the names. One image alone is copied as it is, with its
digest, unless it is appended to or annotated.`,
		Example: `  nacre registry index -t registry.example.com/web:1 registry.example.com/web:1-amd64 registry.example.com/web:1-arm64
  nacre registry index --append -t registry.example.com/web:1 registry.example.com/web:1-riscv64
  nacre registry index -t registry.example.com/web:latest registry.example.com/web:1`,
		Args: minArgs(1, "index needs images to make one of"),
		RunE: func(cmd *cobra.Command, args []string) error { return runIndex(cmd.Context(), a, f, args) },
	}
	fl := cmd.Flags()
	listVar(fl, &f.names, "tag", "t", "name of the index; may be repeated")
	fl.BoolVar(&f.append, "append", false, "add to what the first name stands for, and replace what is for the same platform")
	listVar(fl, &f.annotations, "annotation", "", "KEY=VALUE to annotate the index with; may be repeated")
	fl.BoolVar(&f.dry, "dry-run", false, "print the index and push nothing")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print the digest and nothing else")
	fl.StringVar(&f.progress, "progress", "auto", "how progress is shown: auto, plain, tty, rawjson or quiet")
	return cmd
}

func runIndex(ctx context.Context, a *app, f indexFlags, args []string) error {
	names, err := remoteNames(f.names)
	if err != nil {
		return fmt.Errorf("--tag: %w", err)
	}
	if len(names) == 0 && (!f.dry || f.append) {
		return &hintError{errors.New("the index needs a name"), "-t says which"}
	}
	sources, err := remoteNames(args)
	if err != nil {
		return err
	}
	annotations, err := keyValues("--annotation", f.annotations)
	if err != nil {
		return err
	}
	if f.append {
		sources = append([]registry.Ref{names[0]}, sources...)
	}
	x := indexing{f: f, names: names, sources: sources, annotations: annotations}
	if x.r, err = a.remote(ctx); err != nil {
		return err
	}
	if f.dry {
		_, data, err := x.combine(ctx)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := json.Indent(&b, data, "", "    "); err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.stdout, b.String())
		return err
	}
	p, err := a.newTransfer("Copying", f.progress, f.quiet)
	if err != nil {
		return err
	}
	x.o.Sink = p.sink
	d, err := x.push(ctx)
	if cerr := p.close(err); err == nil {
		err = cerr
	}
	if err == nil && f.quiet {
		fmt.Fprintln(a.stdout, d.Digest)
	} else if err == nil {
		fmt.Fprintf(a.stdout, "%s: digest: %s\n", strings.Join(f.names, ", "), d.Digest)
	}
	return err
}

// indexing is one registry index.
type indexing struct {
	f              indexFlags
	r              registry.Registry
	names, sources []registry.Ref
	annotations    map[string]string
	parts          []registry.Part
	o              registry.CopyOptions
}

// combine makes the index.
func (x *indexing) combine(ctx context.Context) (registry.Descriptor, []byte, error) {
	parts, err := registry.Combine(ctx, x.r, x.sources)
	if err != nil {
		return registry.Descriptor{}, nil, err
	}
	x.parts = parts
	descs := make([]registry.Descriptor, len(parts))
	for i, p := range parts {
		descs[i] = p.Desc
	}
	data, d, err := image.AssembleIndex(descs, x.annotations)
	return d, data, err
}

// push makes the index in the repository of every name, with all it lists.
func (x *indexing) push(ctx context.Context) (d registry.Descriptor, err error) {
	if len(x.sources) == 1 && len(x.annotations) == 0 {
		for _, name := range x.names {
			if d, err = registry.Copy(ctx, x.r, name, x.r, x.sources[0], x.o); err != nil {
				return d, err
			}
		}
		return d, nil
	}
	d, data, err := x.combine(ctx)
	if err != nil {
		return d, err
	}
	var done []string
	for _, name := range x.names {
		if !slices.Contains(done, name.Repo) {
			if err := x.fill(ctx, name.Repo, d, data); err != nil {
				return d, err
			}
			done = append(done, name.Repo)
		}
		if err := x.r.Tag(ctx, name, d); err != nil {
			return d, fmt.Errorf("%s: %w", name.Familiar(), err)
		}
	}
	return d, nil
}

// fill uploads the index to a repository, after what it lists.
func (x *indexing) fill(ctx context.Context, repo string, d registry.Descriptor, data []byte) error {
	for _, p := range x.parts {
		if p.Repo == repo {
			continue
		}
		as := registry.Ref{Repo: repo, Digest: p.Desc.Digest}
		if _, err := registry.Copy(ctx, x.r, as, x.r, registry.Ref{Repo: p.Repo, Digest: p.Desc.Digest}, x.o); err != nil {
			return err
		}
	}
	up, err := x.r.Create(ctx, repo, d)
	if err != nil {
		return err
	}
	defer up.Cancel()
	if _, err := up.Write(data); err != nil {
		return err
	}
	return up.Commit()
}

func remoteNames(list []string) (refs []registry.Ref, err error) {
	for _, s := range list {
		ref, err := remoteName(s)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

func keyValues(flag string, list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m := map[string]string{}
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%s %q: want KEY=VALUE", flag, s)
		}
		m[key] = value
	}
	return m, nil
}
