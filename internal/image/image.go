// Package image holds what an image is made of besides its layers: config,
// manifest, index and history, as values. A change makes a new value.
package image

import (
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Config is an image's config blob: the OCI image config with docker's additions
// (Healthcheck, OnBuild, Shell).
type Config = dockerspec.DockerOCIImage

// Healthcheck is how to find out whether a container of the image is well.
type Healthcheck = dockerspec.HealthcheckConfig

// Manifest, Index and Descriptor are those of the OCI image spec; docker's
// schema 2 types have the same shape and differ in media type only.
type (
	Manifest   = ocispec.Manifest
	Index      = ocispec.Index
	Descriptor = ocispec.Descriptor
	Platform   = ocispec.Platform
	History    = ocispec.History
)
