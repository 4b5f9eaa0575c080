package edit

import (
	"context"
	"time"

	"nacre/internal/image"
	"nacre/internal/layer"
)

// AppendOptions of Append. The zero value works.
type AppendOptions struct {
	// Compression of layers that did not come compressed; nil: as the layer below is, gzip where there is none.
	Compression *layer.Compression
	Created     *time.Time // of the image; nil: as it was
	CreatedBy   string     // for the history
	Comment     string
}

// Append puts layers on top.
func (e *Edit) Append(layers []*Layer, o AppendOptions) Change {
	return func(ctx context.Context, p *Parts) error {
		for _, l := range layers {
			if err := e.append(ctx, p, l, o); err != nil {
				return err
			}
		}
		return nil
	}
}

func (e *Edit) append(ctx context.Context, p *Parts, l *Layer, o AppendOptions) error {
	c := below(p.Manifest)
	if l.came != "" {
		c = layer.Compression{Kind: l.came}
	}
	if o.Compression != nil {
		c = *o.Compression
	}
	if o.Created != nil {
		p.Config.Created = o.Created
	}
	f, file, err := l.blob(ctx, c, p.docker())
	if err != nil {
		return err
	}
	e.files[f.desc.Digest] = file
	p.add(f.desc, f.diffID, image.History{Created: p.Config.Created, CreatedBy: o.CreatedBy, Comment: o.Comment})
	return nil
}

// below is how the topmost layer is compressed.
func below(m image.Manifest) layer.Compression {
	if n := len(m.Layers); n > 0 && image.IsLayer(m.Layers[n-1].MediaType) {
		switch image.Compression(m.Layers[n-1].MediaType) {
		case "":
			return layer.Compression{Kind: layer.Uncompressed}
		case layer.Zstd:
			return layer.Compression{Kind: layer.Zstd}
		}
	}
	return layer.Compression{Kind: layer.Gzip}
}

// OnBase is change that notes in annotations what it was made on: the image as it was, and what that is called
// (empty: nothing that others know).
func OnBase(name string, change Change) Change {
	return func(ctx context.Context, p *Parts) error {
		if err := change(ctx, p); err != nil {
			return err
		}
		if name != "" {
			p.setAnnotation(BaseName, name)
		}
		p.setAnnotation(BaseDigest, p.Desc.Digest.String())
		return nil
	}
}
