package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"nacre/internal/container"
	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func inspectCommand(a *app) *cobra.Command {
	var format, kind, platform string
	var size bool
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] NAME|ID [NAME|ID...]",
		Short: "Show everything known of containers and images as JSON",
		Example: `  nacre inspect web:1
  nacre inspect -f '{{.Config.User}} {{json .Config.Env}}' web:1`,
		Args: minArgs(1, "inspect needs at least one name or ID"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			names, _ := a.completeContainers(nil)(cmd, args, prefix)
			images, directive := a.completeImages(cmd, args, prefix)
			return append(names, images...), directive
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if kind != "" && kind != "image" && kind != "container" {
				return fmt.Errorf("--type=%s: want image or container", kind)
			}
			var p *image.Platform
			if platform != "" {
				parsed, err := parsePlatform(platform)
				if err != nil {
					return err
				}
				p = &parsed
			}
			return runInspect(a, format, args, func(name string) (any, error) {
				if kind != "image" {
					v, err := a.inspectContainer(cmd.Context(), name, size)
					if kind == "container" || !errors.Is(err, container.ErrNotFound) {
						return v, err
					}
				}
				v, err := inspectImage(cmd.Context(), a, name, p)
				if kind == "" && errors.Is(err, registry.ErrAbsent) {
					err = &hintError{fmt.Errorf("no such object: %s", name), "nacre ps -a and nacre images list what there is"}
				}
				return v, err
			})
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", `"json" or a Go template`)
	cmd.Flags().StringVar(&kind, "type", "", "what is inspected: container or image (default: what has that name)")
	cmd.Flags().BoolVarP(&size, "size", "s", false, "also what a container takes of the disk")
	cmd.Flags().StringVar(&platform, "platform", "", "which image of an index (default: this machine's)")
	return cmd
}

// runInspect shows what it can and fails at the end for what it could not find, as docker does.
func runInspect(a *app, format string, names []string, inspect func(name string) (any, error)) error {
	found := []any{}
	var failed several
	for _, name := range names {
		v, err := inspect(name)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		found = append(found, v)
	}
	if err := printInspected(a, format, found); err != nil {
		return err
	}
	return failed.orNil()
}

func printInspected(a *app, format string, found []any) error {
	if format == "" {
		data, err := indented(found)
		if err == nil {
			_, err = a.stdout.Write(data)
		}
		return err
	}
	if format == "json" {
		format = "{{json .}}"
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	for _, v := range found {
		var b bytes.Buffer
		if err := t.Execute(&b, v); err != nil {
			// The field may be one of the JSON form's that has no Go name here.
			var generic any
			data, merr := json.Marshal(v)
			if merr == nil {
				merr = json.Unmarshal(data, &generic)
			}
			b.Reset()
			if merr != nil || t.Option("missingkey=error").Execute(&b, generic) != nil {
				return fmt.Errorf("--format: %w", err)
			}
		}
		fmt.Fprintln(a.stdout, b.String())
	}
	return nil
}

func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

// inspected is an image in the shape of docker's "image inspect" (Engine API, ImageInspect).
type inspected struct {
	ID            string `json:"Id"`
	RepoTags      []string
	RepoDigests   []string
	Parent        string
	Comment       string
	Created       string
	DockerVersion string
	Author        string
	Config        inspectedConfig
	Architecture  string
	Variant       string `json:",omitempty"`
	Os            string
	OsVersion     string `json:",omitempty"`
	Size          int64
	VirtualSize   int64
	GraphDriver   struct {
		Data any
		Name string
	}
	RootFS struct {
		Type   string
		Layers []string `json:",omitempty"`
	}
	Metadata struct{ LastTagTime time.Time }
	// Descriptor is the manifest's or the index's.
	Descriptor image.Descriptor
}

// inspectedConfig has docker's fields in docker's order, also those that images no longer use.
type inspectedConfig struct {
	Hostname, Domainname, User              string
	AttachStdin, AttachStdout, AttachStderr bool
	ExposedPorts                            map[string]struct{} `json:",omitempty"`
	Tty, OpenStdin, StdinOnce               bool
	Env, Cmd                                []string
	Healthcheck                             any  `json:",omitempty"`
	ArgsEscaped                             bool `json:",omitempty"`
	Image                                   string
	Volumes                                 map[string]struct{}
	WorkingDir                              string
	Entrypoint, OnBuild                     []string
	Labels                                  map[string]string
	StopSignal                              string   `json:",omitempty"`
	Shell                                   []string `json:",omitempty"`
}

func inspectImage(ctx context.Context, a *app, name string, p *image.Platform) (inspected, error) {
	img, err := a.image(ctx, name)
	if err != nil {
		return inspected{}, err
	}
	m, d, err := a.opened.Manifest(ctx, img, p)
	if err != nil {
		return inspected{}, err
	}
	cfg, _, err := a.opened.Config(ctx, m.Config)
	if err != nil {
		return inspected{}, err
	}
	return newInspected(img, m.Config.Digest, d, cfg), nil
}

func newInspected(img store.Image, id digest.Digest, d image.Descriptor, cfg image.Config) inspected {
	v := inspected{
		ID: id.String(), Parent: img.Parent.String(), RepoTags: []string{}, RepoDigests: []string{}, Author: cfg.Author,
		Architecture: cfg.Architecture, Variant: cfg.Variant, Os: cfg.OS, OsVersion: cfg.OSVersion,
		Size: img.Size, VirtualSize: img.Size, Descriptor: d,
	}
	if cfg.Created != nil {
		v.Created = cfg.Created.UTC().Format(time.RFC3339Nano)
	}
	if n := len(cfg.History); n > 0 {
		v.Comment = cfg.History[n-1].Comment
	}
	for _, n := range img.Names {
		if n.Tag != "" {
			v.RepoTags = append(v.RepoTags, n.FamiliarRepo()+":"+n.Tag)
		}
	}
	for _, n := range img.Digests {
		v.RepoDigests = append(v.RepoDigests, n.Familiar())
	}
	v.GraphDriver.Name = "nacre"
	v.RootFS.Type = "layers"
	for _, d := range cfg.RootFS.DiffIDs {
		v.RootFS.Layers = append(v.RootFS.Layers, d.String())
	}
	v.Metadata.LastTagTime = img.Added
	c := cfg.Config
	v.Config = inspectedConfig{
		User: c.User, ExposedPorts: c.ExposedPorts, Env: c.Env, Cmd: c.Cmd,
		Volumes: c.Volumes, WorkingDir: c.WorkingDir, Entrypoint: c.Entrypoint, OnBuild: c.OnBuild,
		Labels: c.Labels, StopSignal: c.StopSignal, Shell: c.Shell,
	}
	v.Config.ArgsEscaped = c.ArgsEscaped //lint:ignore SA1019 deprecated for new images, shown of those there are
	if c.Healthcheck != nil {
		v.Config.Healthcheck = c.Healthcheck
	}
	return v
}
