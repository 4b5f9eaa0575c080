package edit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"
	"time"

	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/source"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Layer is a layer on its way into images, as files in a folder of its own. It may become a blob in several ways, of which each is made once.
type Layer struct {
	Info layer.Info
	dir  string
	came string            // how the tar came compressed, where it is kept as it came; else empty
	as   map[string]form   // by layer.Compression.Name
	path map[string]string // of blobs, by digest
}

// form is what a layer travels as.
type form struct {
	desc   registry.Descriptor // but for its media type
	diffID digest.Digest       // eStargz puts a table into the tar, which is another layer then
}

// Owner of files.
type Owner struct{ UID, GID int }

// Placing says how files get into a layer. The zero value leaves names as they are.
type Placing struct {
	// To is the folder of the image that they come to be in, as in layer.Entry; empty is its root.
	To string
	// Owner of all of them; nil: root for what is from a folder, for what is from a tar the one it says.
	Owner *Owner
	// NotAfter is the time that no file from a folder is younger than; nil: any time.
	NotAfter *time.Time
}

// capability is what layers keep of a folder's extended attributes, as with COPY; others are notes of one machine.
const capability = "security.capability"

// FromFolder makes a layer of what is in the folder from. dir exists and is empty. The same files
// give the same bytes.
func FromFolder(ctx context.Context, dir, from string, o Placing) (*Layer, error) {
	tree, err := source.OpenDir(ctx, from, source.DirOptions{})
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	return write(ctx, dir, func(yield func(layer.File, error) bool) {
		first := map[uint64]string{}
		for f, err := range tree.Files(".") {
			if err != nil {
				yield(layer.File{}, err)
				return
			}
			if f.Name == "." || f.Mode&unix.S_IFMT == unix.S_IFSOCK {
				continue
			}
			out := layer.File{Entry: f.Entry, Open: f.Open}
			out.Xattrs = nil
			if v, ok := f.Xattrs[capability]; ok {
				out.Xattrs = map[string]string{capability: v}
			}
			out.UID, out.GID = 0, 0
			if o.NotAfter != nil && out.ModTime.After(*o.NotAfter) {
				out.ModTime = *o.NotAfter
			}
			o.place(&out)
			if f.Nlink > 1 && f.Mode&unix.S_IFMT != unix.S_IFDIR {
				if name, ok := first[f.Ino]; ok {
					out = layer.File{Entry: layer.Entry{Name: out.Name, Hard: true, Link: name}}
				} else {
					first[f.Ino] = out.Name
				}
			}
			if !yield(out, nil) {
				return
			}
		}
	})
}

// place gives a file its name and owner.
func (o Placing) place(f *layer.File) {
	f.Name = path.Join(o.To, f.Name)
	if o.Owner != nil {
		f.UID, f.GID = o.Owner.UID, o.Owner.GID
	}
}

func write(ctx context.Context, dir string, files iter.Seq2[layer.File, error]) (*Layer, error) {
	info, err := layer.Write(ctx, dir, files)
	if err != nil {
		return nil, err
	}
	return newLayer(dir, info), nil
}

func newLayer(dir string, info layer.Info) *Layer {
	tar := registry.Descriptor{MediaType: image.TypeLayer, Digest: info.DiffID, Size: info.Size}
	return &Layer{
		Info: info, dir: dir,
		as:   map[string]form{layer.Uncompressed: {tar, info.DiffID}},
		path: map[string]string{info.DiffID.String(): filepath.Join(dir, "layer.tar")},
	}
}

// FromTar makes a layer of a tar, compressed or not. As it is no files are changed, and one that came as gzip or zstd stays what it was to
// the byte. dir exists and is empty. Errors: those of layer.Ingest.
func FromTar(ctx context.Context, dir string, r io.Reader, o Placing) (*Layer, error) {
	if o.To != "" || o.Owner != nil {
		return placed(ctx, dir, r, o)
	}
	blob, err := os.Create(filepath.Join(dir, "blob"))
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	sum := digest.SHA256.Digester()
	head := &firstBytes{}
	tee := io.TeeReader(r, io.MultiWriter(blob, sum.Hash(), head))
	info, err := layer.Ingest(ctx, dir, tee, layer.IngestOptions{})
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return nil, err
	}
	l := newLayer(dir, info)
	if l.came = head.compression(); l.came == "" {
		return l, os.Remove(blob.Name())
	}
	st, err := blob.Stat()
	if err != nil {
		return nil, err
	}
	d := registry.Descriptor{MediaType: layerType(l.came, false), Digest: sum.Digest(), Size: st.Size()}
	l.as[l.came], l.path[d.Digest.String()] = form{d, info.DiffID}, blob.Name()
	return l, nil
}

// firstBytes tells how a stream is compressed, of what there are media types for.
type firstBytes struct{ b []byte }

func (f *firstBytes) Write(p []byte) (int, error) {
	if n := layer.SniffSize - len(f.b); n > 0 {
		f.b = append(f.b, p[:min(n, len(p))]...)
	}
	return len(p), nil
}

func (f *firstBytes) compression() string {
	if kind := layer.CompressionOf(f.b); kind == layer.Gzip || kind == layer.Zstd {
		return kind
	}
	return ""
}

// placed writes the files of a tar anew, in other places or of another owner.
func placed(ctx context.Context, dir string, r io.Reader, o Placing) (*Layer, error) {
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := errors.Join(os.Mkdir(in, 0o700), os.Mkdir(out, 0o700)); err != nil {
		return nil, err
	}
	if _, err := layer.Ingest(ctx, in, r, layer.IngestOptions{}); err != nil {
		return nil, err
	}
	l, err := layer.Open(in)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	made, err := write(ctx, out, func(yield func(layer.File, error) bool) {
		for st, err := range l.All() {
			if err != nil {
				yield(layer.File{}, err)
				return
			}
			if st.Implicit || st.Name == "." {
				continue
			}
			f := layer.File{Entry: st.Entry}
			if f.Mode&unix.S_IFMT == unix.S_IFREG && !f.Hard && !f.Whiteout && f.Size > 0 {
				name := st.Name
				f.Open = func() (io.ReadCloser, error) { return l.Open(name) }
			}
			o.place(&f)
			if f.Hard {
				f.Link = path.Join(o.To, f.Link)
			}
			if !yield(f, nil) {
				return
			}
		}
	})
	return made, errors.Join(err, os.RemoveAll(in))
}

// blob is the layer compressed, as part of a manifest of docker's or not, with its diffID and file.
func (l *Layer) blob(ctx context.Context, c layer.Compression, docker bool) (f form, file string, err error) {
	if c, err = c.Normal(); err != nil {
		return f, "", err
	}
	name := c.Name()
	if l.came == c.Kind {
		name = l.came // as it came
	}
	f, ok := l.as[name]
	if !ok {
		if f, err = l.compress(ctx, c, name); err != nil {
			return f, "", fmt.Errorf("compress layer %s: %w", l.Info.DiffID, err)
		}
		l.as[name] = f
	}
	f.desc.MediaType = layerType(c.Kind, docker)
	return f, l.path[f.desc.Digest.String()], nil
}

func (l *Layer) compress(ctx context.Context, c layer.Compression, name string) (f form, err error) {
	in, err := os.Open(filepath.Join(l.dir, "layer.tar"))
	if err != nil {
		return f, err
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(l.dir, name))
	if err != nil {
		return f, err
	}
	defer out.Close()
	sum := digest.SHA256.Digester()
	count := &counting{}
	w, err := layer.Compress(io.MultiWriter(out, sum.Hash(), count), c)
	if err != nil {
		return f, err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, registry.Until(ctx, in), make([]byte, 1<<20))
	if err = errors.Join(err, w.Close()); err != nil {
		return f, err
	}
	p := w.Packed()
	f.diffID = l.Info.DiffID
	if p.DiffID != "" {
		f.diffID = p.DiffID
	}
	f.desc = registry.Descriptor{Digest: sum.Digest(), Size: count.n, Annotations: p.Annotations}
	l.path[f.desc.Digest.String()] = out.Name()
	return f, nil
}

type counting struct{ n int64 }

func (c *counting) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// layerType is the media type of a layer compressed by kind.
func layerType(kind string, docker bool) string {
	types := map[string][2]string{
		layer.Uncompressed: {image.TypeLayer, image.TypeDockerLayer},
		layer.Gzip:         {image.TypeLayerGzip, image.TypeDockerLayerGzip},
		layer.EStargz:      {image.TypeLayerGzip, image.TypeDockerLayerGzip},
		layer.Zstd:         {image.TypeLayerZstd, image.TypeDockerLayerZstd},
	}[kind]
	if docker {
		return types[1]
	}
	return types[0]
}
