package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
)

// noName is what docker shows of a name that is not there.
const noName = "<none>"

// imageRow is an image as docker's templates know it.
type imageRow struct {
	Containers, CreatedAt, CreatedSince, Digest, ID, Repository string
	SharedSize, Size, Tag, UniqueSize, VirtualSize              string

	image *store.Image
}

// headings are docker's where they are not the names of the fields.
func (imageRow) headings() header { return header{"ID": "IMAGE ID", "VirtualSize": "SIZE"} }

// Label is the value of one label; docker has no such field here, nor the next.
func (r imageRow) Label(name string) string { return r.image.Labels[name] }

// Labels are all of them, as docker shows those of containers.
func (r imageRow) Labels() string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(r.image.Labels)) {
		list = append(list, key+"="+r.image.Labels[key])
	}
	return strings.Join(list, ",")
}

// Platform is what the image runs on; of an index, the image of it that ID is of.
func (r imageRow) Platform() string {
	if r.image.Platform.Architecture == "" {
		return ""
	}
	return image.FormatPlatform(r.image.Platform)
}

// rowStyle is how images become rows.
type rowStyle struct {
	noTrunc bool
	digests bool // a row for each digest
	now     time.Time

	// By manifest or index, where they are asked for:
	containers map[digest.Digest]int
	usage      map[digest.Digest]store.ImageUsage
}

// imageRows gives one row for each tag, one for each repository that has the image by digest alone, and
// <none> for the nameless, as docker does.
func imageRows(images []store.Image, style rowStyle) []imageRow {
	var rows []imageRow
	for i := range images {
		img := &images[i]
		row := style.row(img)
		if len(img.Names) == 0 {
			rows = append(rows, row)
		}
		last := "" // repository of which all was said
		for _, n := range img.Names {
			if n.Tag == "" && (n.Repo == last || tagged(img.Names, n.Repo)) {
				continue // its digest is shown with the tag, or with the digest before
			}
			last, row.Tag = n.Repo, noName
			row.Repository = n.FamiliarRepo()
			if n.Tag != "" {
				last, row.Tag = "", n.Tag
			}
			rows = style.withDigests(rows, row, img, n.Repo)
		}
	}
	return rows
}

// withDigests adds row once with each digest that the image has in a repository, or only with the first.
func (s rowStyle) withDigests(rows []imageRow, row imageRow, img *store.Image, repo string) []imageRow {
	row.Digest = noName
	for _, d := range img.Digests {
		if d.Repo != repo {
			continue
		}
		if row.Digest != noName {
			rows = append(rows, row)
		}
		row.Digest = d.Digest.String()
		if !s.digests {
			break
		}
	}
	return append(rows, row)
}

func tagged(names []registry.Ref, repo string) bool {
	return slices.ContainsFunc(names, func(n registry.Ref) bool { return n.Repo == repo && n.Tag != "" })
}

// row is all of a row but its name.
func (s rowStyle) row(img *store.Image) imageRow {
	r := imageRow{
		ID: shortID(img.ID), Repository: noName, Tag: noName, Digest: noName,
		CreatedSince: since(img.Created, s.now), CreatedAt: img.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
		Size: humanSize(img.Size), VirtualSize: units.HumanSize(float64(img.Size)), // as docker, with a digit more
		Containers: "N/A", SharedSize: "N/A", UniqueSize: "N/A", image: img,
	}
	if s.noTrunc {
		r.ID = img.ID.String()
	}
	if s.containers != nil {
		r.Containers = strconv.Itoa(s.containers[img.Target.Digest])
	}
	if u, ok := s.usage[img.Target.Digest]; ok {
		r.SharedSize, r.UniqueSize = humanSize(u.Shared), humanSize(u.Unique)
	}
	return r
}
