package build

import (
	"context"

	"nacre/internal/copier"
	"nacre/internal/graph"
)

// fetchedBy is the step that fetches the source i of c; nil: it is a path.
func fetchedBy(c *graph.Copy, i int) *graph.Step {
	if len(c.Remote) == 0 {
		return nil
	}
	return c.Remote[i]
}

// local are the sources of c that are paths.
func local(c *graph.Copy) []string {
	var paths []string
	for i, src := range c.Sources {
		if fetchedBy(c, i) == nil {
			paths = append(paths, src)
		}
	}
	return paths
}

// copyFetched copies what the step r fetched: the file of that name, or a whole tree. Archives
// are unpacked only where --unpack says so.
func (w *work) copyFetched(ctx context.Context, r *graph.Step, c *graph.Copy, name string, o copier.Options) error {
	t, err := w.rootFS(ctx, w.input(r).layers)
	if err != nil {
		return err
	}
	o.Digest = nil
	if c.Unpack != nil && r.Op.(*graph.Fetch).HTTP != nil {
		if done, err := w.unpack(ctx, t, c, name, o); done || err != nil {
			return err
		}
	}
	return w.plan.Copy(t, name, c.Dest, o)
}
