package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"nacre/internal/graph"

	"github.com/opencontainers/go-digest"
)

// maxDockerfile bounds what is read as a Dockerfile: the name may be of anything.
const maxDockerfile = 16 << 20

// usualName is that of a Dockerfile which nobody named. All in small letters will do, too.
const usualName = "Dockerfile"

func dockerfileName(o Options) string {
	if o.Dockerfile != "" {
		return path.Base(strings.TrimRight(o.Dockerfile, "/"))
	}
	return usualName
}

// dockerfile reads the Dockerfile from where the options say that it is.
func (c *contextSource) dockerfile(ctx context.Context) ([]byte, error) {
	o := c.o
	switch {
	case o.Data != nil:
		return o.Data, nil
	case graph.IsHTTP(o.Dockerfile):
		return c.fetchDockerfile(ctx, o.Dockerfile)
	case o.isRemote() && (o.Tar != nil || !filepath.IsAbs(o.Dockerfile)):
		return c.dockerfileWithin(ctx)
	case o.Dockerfile != "":
		return readDockerfile(o.Dockerfile)
	}
	return readDockerfile(filepath.Join(o.Context, usualName))
}

// dockerfilePath is that of a Dockerfile on this machine; empty where it is from elsewhere.
func (o Options) dockerfilePath() string {
	switch {
	case o.Data != nil || graph.IsHTTP(o.Dockerfile):
		return ""
	case o.Dockerfile == "":
		return filepath.Join(o.Context, usualName)
	}
	return o.Dockerfile
}

func readDockerfile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && filepath.Base(path) == usualName {
		f, err = os.Open(filepath.Join(filepath.Dir(path), strings.ToLower(usualName)))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no Dockerfile at %s: name one with -f", path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f, path)
}

// fetchDockerfile gets one from a URL, for a context that may be anywhere else.
func (c *contextSource) fetchDockerfile(ctx context.Context, url string) ([]byte, error) {
	op, err := Remote(url)
	if err != nil {
		return nil, err
	}
	f := &fetcher{Builder: c.Builder, o: c.o, hold: c.lease.Layer, lease: c.lease, id: stepDockerfile}
	out, _, err := f.fetch(ctx, op)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	root, err := Root(ctx, c.Store, []digest.Digest{out.DiffID})
	if err != nil {
		return nil, err
	}
	file, err := root.Open(op.HTTP.Name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readBounded(file, op.String())
}

// dockerfileWithin reads the Dockerfile out of a context that is no directory. A URL that is not that of
// a tar is a Dockerfile itself.
func (c *contextSource) dockerfileWithin(ctx context.Context) ([]byte, error) {
	t, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	name := usualName
	if c.o.Dockerfile != "" {
		name = path.Clean("/" + c.o.Dockerfile)[1:]
	}
	if l, ok := t.(layerTree); ok && l.single != "" {
		name = l.single
	}
	f, err := openWithin(t, name)
	if errors.Is(err, fs.ErrNotExist) && path.Base(name) == usualName {
		f, err = openWithin(t, path.Join(path.Dir(name), strings.ToLower(usualName)))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the build context has no %s: name one with -f", name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f, name)
}

func openWithin(t contextTree, name string) (fs.File, error) {
	resolved, err := t.Resolve(name)
	if err != nil {
		return nil, err
	}
	return t.Open(resolved)
}

func readBounded(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err == nil && len(data) > maxDockerfile {
		err = fmt.Errorf("%s: larger than %d bytes", name, maxDockerfile)
	}
	return data, err
}
