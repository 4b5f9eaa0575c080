package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry/store"
)

// platformImage is an image, and that of it for one platform.
type platformImage struct {
	store.Image
	manifest image.Manifest
	desc     image.Descriptor
	config   image.Config
	raw      []byte // the config as it is
}

// inspected is an image in the shape of docker's "image inspect" (Engine API, ImageInspect).
type inspected struct {
	ID              string `json:"Id"`
	RepoTags        []string
	RepoDigests     []string
	Parent          string
	Comment         string
	Created         string           `json:",omitempty"`
	Container       string           `json:",omitempty"`
	ContainerConfig *inspectedConfig `json:",omitempty"`
	DockerVersion   string
	Author          string
	Config          inspectedConfig
	Architecture    string
	Variant         string `json:",omitempty"`
	Os              string
	OsVersion       string `json:",omitempty"`
	Size            int64
	VirtualSize     int64 // newer engines have it no more
	GraphDriver     struct {
		Data any
		Name string
	}
	RootFS struct {
		Type   string
		Layers []string `json:",omitempty"`
	}
	Metadata   struct{ LastTagTime time.Time }
	Descriptor image.Descriptor // of the manifest or the index
	// Manifests are what an index consists of, as the engine's API has them.
	Manifests []inspectedManifest `json:",omitempty"`
}

// inspectedConfig has docker's fields in docker's order, also those that images no longer use.
type inspectedConfig struct {
	Hostname, Domainname, User              string
	AttachStdin, AttachStdout, AttachStderr bool
	ExposedPorts                            map[string]struct{} `json:",omitempty"`
	Tty, OpenStdin, StdinOnce               bool
	Env, Cmd                                []string
	Healthcheck                             *inspectedCheck `json:",omitempty"`
	ArgsEscaped                             bool            `json:",omitempty"`
	Image                                   string
	Volumes                                 map[string]struct{}
	WorkingDir                              string
	Entrypoint                              []string
	NetworkDisabled                         bool   `json:",omitempty"`
	MacAddress                              string `json:",omitempty"`
	OnBuild                                 []string
	Labels                                  map[string]string
	StopSignal                              string   `json:",omitempty"`
	StopTimeout                             *int     `json:",omitempty"`
	Shell                                   []string `json:",omitempty"`
}

// inspectedCheck is a HEALTHCHECK.
type inspectedCheck struct {
	Test                                          []string      `json:",omitempty"`
	Interval, Timeout, StartPeriod, StartInterval time.Duration `json:",omitempty"`
	Retries                                       int           `json:",omitempty"`
}

// inspectedManifest is a manifest of an index (Engine API, ImageManifestSummary).
type inspectedManifest struct {
	ID         string // the manifest's digest
	Descriptor image.Descriptor
	Available  bool
	Size       struct{ Content, Total int64 }
	Kind       string
	ImageData  struct {
		Platform image.Platform
		Size     struct{ Unpacked int64 }
	}
}

func inspectImage(ctx context.Context, a *app, name string, p *image.Platform) (any, error) {
	img, err := a.platformImage(ctx, name, p)
	if err != nil {
		return nil, err
	}
	v := newInspected(img)
	if v.Metadata.LastTagTime, err = a.opened.LastTagged(ctx, img.Image); err != nil {
		return nil, err
	}
	if err := v.setConfig(img); err != nil {
		return nil, err
	}
	if !image.IsIndex(img.Target.MediaType) {
		return v, nil
	}
	list, err := a.opened.Variants(ctx, img.Image)
	if err != nil {
		return nil, err
	}
	if p == nil {
		v.Descriptor = img.Target
	}
	for _, one := range list {
		if one.Target.Digest == img.desc.Digest {
			v.Size, v.VirtualSize = one.Size, one.Size
		}
		m := inspectedManifest{ID: one.Target.Digest.String(), Descriptor: one.Target, Available: one.Present, Kind: "image"}
		m.Size.Content, m.Size.Total = one.Content, one.Content+one.Size
		m.ImageData.Platform, m.ImageData.Size.Unpacked = one.Platform, one.Size
		v.Manifests = append(v.Manifests, m)
	}
	return v, nil
}

// newInspected is all but what only the config's bytes or a search tell.
func newInspected(img platformImage) inspected {
	cfg := img.config
	v := inspected{
		ID: img.manifest.Config.Digest.String(), Parent: img.Parent.String(), RepoTags: []string{}, RepoDigests: []string{}, Author: cfg.Author,
		Architecture: cfg.Architecture, Variant: cfg.Variant, Os: cfg.OS, OsVersion: cfg.OSVersion,
		Size: img.Size, VirtualSize: img.Size, Descriptor: img.desc,
	}
	if cfg.Created != nil {
		v.Created = cfg.Created.UTC().Format(time.RFC3339Nano)
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
	return v
}

// setConfig fills in what is in the config as docker writes it, some of it since long ago.
func (v *inspected) setConfig(img platformImage) error {
	var old struct {
		Comment         string           `json:"comment"`
		Container       string           `json:"container"`
		ContainerConfig *inspectedConfig `json:"container_config"`
		DockerVersion   string           `json:"docker_version"`
		Config          inspectedConfig  `json:"config"`
	}
	if err := json.Unmarshal(img.raw, &old); err != nil {
		return fmt.Errorf("config %s: %w", img.manifest.Config.Digest, err)
	}
	v.Comment, v.Container, v.ContainerConfig, v.DockerVersion, v.Config = old.Comment, old.Container, old.ContainerConfig, old.DockerVersion, old.Config
	if n := len(img.config.History); n > 0 && v.Comment == "" {
		v.Comment = img.config.History[n-1].Comment
	}
	return nil
}
