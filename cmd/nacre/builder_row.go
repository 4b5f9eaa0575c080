package main

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"nacre/internal/cache"
	"nacre/internal/cache/note"
	"nacre/internal/registry/store"
)

// Types of what the build cache has, in BuildKit's words.
const (
	typeRegular = "regular"
	typeHTTP    = "source.http"
	typeGit     = "source.git.checkout"
	typeMount   = "exec.cachemount"
	typeContext = "source.local"
)

var cacheTypes = []string{typeRegular, typeHTTP, typeGit, typeMount, typeContext}

// cacheRow is a line of builder du, as templates of docker and buildx know it.
type cacheRow struct {
	ID                  string
	Parents             []string
	Type, CacheType     string
	Description         string
	CreatedAt           string
	LastUsedAt          string
	Size                string
	Mutable             bool
	Reclaimable, Shared bool
	InUse               bool

	item    store.CacheItem
	full    string   // the ID, whole
	parents []string // IDs, whole
}

// cacheRows describes what the cache has, used last first.
func cacheRows(items []store.CacheItem, now time.Time) []cacheRow {
	made := map[string]string{} // the layer that a step with this key left
	for _, c := range items {
		for _, rec := range c.Records {
			made[rec.Key.String()] = c.ID
		}
	}
	rows := make([]cacheRow, len(items))
	for i, c := range items {
		r := cacheRow{
			ID: shortCacheID(c.ID), full: c.ID, item: c, Description: "layer of a step", Type: typeRegular,
			CreatedAt: c.Created.UTC().Format(time.RFC3339), LastUsedAt: since(c.Used, now), Size: humanSize(c.Size),
			Shared: c.Shared, InUse: c.InUse, Reclaimable: !c.Shared && !c.InUse,
		}
		switch c.Kind {
		case store.CacheMount:
			r.Type, r.Mutable, r.Description = typeMount, true, "mount "+c.Mount.ID
			if c.Mount.Variant != "" {
				r.Description += " (" + c.Mount.Variant + ")"
			}
		case store.CacheContext:
			r.Type, r.Mutable, r.Description = typeContext, true, "digests of the files of a build context"
		default:
			r.describeLayer(made)
		}
		r.CacheType = r.Type
		rows[i] = r
	}
	slices.SortStableFunc(rows, func(a, b cacheRow) int {
		return cmp.Or(b.item.Used.Compare(a.item.Used), cmp.Compare(a.full, b.full))
	})
	return rows
}

func shortCacheID(id string) string { return id[:min(12, len(id))] }

// describeLayer says what made a layer, by the record that tells most.
func (r *cacheRow) describeLayer(made map[string]string) {
	best := 0
	for _, rec := range r.item.Records {
		for _, f := range rec.Fields {
			if id := made[f.Value]; id != "" && id != r.full && (f.Name == "parent" || f.Name == "from") && !slices.Contains(r.parents, id) {
				r.parents = append(r.parents, id)
				r.Parents = append(r.Parents, shortCacheID(id))
			}
		}
		if kind, text, rank := describeRecord(rec); rank > best {
			best = rank
			r.Type, r.Description = kind, text
		}
	}
}

// describeRecord is the type and the description that a record gives, and how much it tells; 0: nothing.
func describeRecord(rec cache.Record) (kind, text string, rank int) {
	f := recordFields(rec.Fields)
	switch kind, _, _ := strings.Cut(f.one("kind"), "/"); kind {
	case "http":
		return typeHTTP, "http url " + f.one("url"), 4
	case "http-checksum":
		return typeHTTP, "http file " + f.one("name"), 1
	case "git":
		return typeGit, "git snapshot for " + f.one("remote") + "#" + f.one("object"), 4
	}
	if n, err := note.Head(rec.Note); err == nil && n.Step != "" {
		return typeRegular, strings.TrimSpace(n.Place + " " + n.Step), 3
	}
	if text := f.instruction(); text != "" {
		return typeRegular, text, 2
	}
	return "", "", 0
}

// recordFields are those of a record, as graph.Step.Fields names them.
type recordFields []cache.Field

func (f recordFields) all(name string) (values []string) {
	for _, x := range f {
		if x.Name == name {
			values = append(values, x.Value)
		}
	}
	return values
}

func (f recordFields) one(name string) string { return strings.Join(f.all(name), " ") }

// instruction is roughly what stood in the Dockerfile, of a record whose note is lost.
func (f recordFields) instruction() string {
	switch op := f.one("op"); op {
	case "run":
		args := f.all("arg")
		if n := len(args); n > 1 && args[n-2] == "-c" {
			args = args[n-1:]
		}
		return "RUN " + strings.Join(args, " ")
	case "copy", "add":
		return strings.ToUpper(op) + " " + strings.Join(append(f.all("source"), f.one("dest")), " ")
	case "workdir":
		return "WORKDIR " + f.one("path")
	}
	return ""
}

// isHexID tells whether s may be the beginning of an ID.
func isHexID(s string) bool {
	_, err := hex.DecodeString(s + strings.Repeat("0", len(s)%2))
	return err == nil && s != ""
}
