package main

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"nacre/internal/build"
	"nacre/internal/event"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// built is what --iidfile, --metadata-file and -q tell of: of several images the last that
// was asked for, as BuildKit's clients do.
type built struct {
	config  digest.Digest
	desc    registry.Descriptor // zero: there is no image
	created time.Time
	names   []registry.Ref
}

func builtImage(r build.Result, names []registry.Ref, list []*target) built {
	b := built{config: r.Config}
	if r.Created != nil {
		b.created = *r.Created
	}
	if len(list) == 0 {
		b.desc, b.names = r.Manifest, names
	}
	for _, o := range list {
		if !o.isImage() {
			continue
		}
		b.config, b.desc = r.Config, r.Manifest
		if o.out != nil {
			b.config, b.desc, b.created = o.out.Config, o.out.Desc, o.out.Created
		}
		if len(b.names) == 0 {
			b.names = append(b.names, names...)
		}
		if !o.plain() {
			b.names = append(b.names, o.names...)
		}
	}
	return b
}

// writeMetadata writes --metadata-file, with the keys that BuildKit's clients look for.
func writeMetadata(path string, b built, warnings []event.Warning) error {
	m := map[string]any{"buildx.build.ref": "default/default/" + strings.ToLower(rand.Text())}
	if b.desc.Digest != "" {
		notes := map[string]string{"config.digest": b.config.String()}
		if !b.created.IsZero() {
			notes["org.opencontainers.image.created"] = b.created.UTC().Format(time.RFC3339)
		}
		maps.Copy(notes, b.desc.Annotations)
		b.desc.Annotations = notes
		m["containerimage.config.digest"] = b.config
		m["containerimage.digest"] = b.desc.Digest
		m["containerimage.descriptor"] = b.desc
		var full []string
		for _, n := range b.names {
			full = append(full, n.String())
		}
		if len(full) > 0 {
			m["image.name"] = strings.Join(full, ",")
		}
	}
	if on, _ := strconv.ParseBool(os.Getenv("BUILDX_METADATA_WARNINGS")); on && len(warnings) > 0 {
		m["buildx.build.warnings"] = vertexWarnings(warnings)
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// vertexWarning has the fields of BuildKit's client.VertexWarning.
type vertexWarning struct {
	Level      int         `json:"level"`
	Short      []byte      `json:"short"`
	Detail     [][]byte    `json:"detail,omitempty"`
	SourceInfo *sourceInfo `json:"sourceInfo,omitempty"`
	Range      []lineRange `json:"range,omitempty"`
}

type sourceInfo struct {
	Filename string `json:"filename"`
}

type lineRange struct {
	Start linePosition `json:"start"`
	End   linePosition `json:"end"`
}

type linePosition struct {
	Line int `json:"line"`
}

func vertexWarnings(list []event.Warning) []vertexWarning {
	out := []vertexWarning{} // never null
	for _, w := range list {
		v := vertexWarning{Level: 1, Short: []byte(w.Text)}
		if w.Hint != "" {
			v.Detail = append(v.Detail, []byte(w.Hint))
		}
		if file, line, ok := strings.Cut(w.Pos, ":"); ok {
			if n, err := strconv.Atoi(line); err == nil {
				v.SourceInfo, v.Range = &sourceInfo{file}, []lineRange{{linePosition{n}, linePosition{n}}}
			}
		}
		out = append(out, v)
	}
	return out
}

// warningKeeper remembers the warnings that pass by.
type warningKeeper struct {
	mu   sync.Mutex
	list []event.Warning
}

func (k *warningKeeper) over(sink event.Sink) event.Sink {
	return func(e event.Event) {
		if w, ok := e.(event.Warning); ok {
			k.mu.Lock()
			k.list = append(k.list, w)
			k.mu.Unlock()
		}
		sink(e)
	}
}
