// Package build turns a Dockerfile and a context into an image. It is the one
// place that knows all the others: graph plans, the solver in solve.go walks the
// plan, and one file per operation says how its layer is made.
package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"nacre/internal/cache"
	"nacre/internal/dockerfile"
	"nacre/internal/event"
	"nacre/internal/graph"
	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// Options says what to build. The zero value of each field is the usual choice.
type Options struct {
	Context    string // directory; empty: no context at all (Dockerfile on stdin)
	Dockerfile string // path of it; empty: Dockerfile in the context
	Data       []byte // its text, where it does not come from a file
	Names      []registry.Ref
	BuildArgs  map[string]*string
	Labels     map[string]string
	Target     string
	Network    string // of RUN steps that do not say: "default", "none", "host"
	NoCache    bool
	Hosts      []string       // extra lines of /etc/hosts, "NAME:IP"
	Platform   image.Platform // zero: this machine's
}

// Builder builds into a store.
type Builder struct {
	Store *store.Store
	Cache cache.Cache
	Sink  event.Sink
	// Clock gives the time of steps; nil is time.Now.
	Clock func() time.Time
	// Slots is how many RUN steps execute at once; 0: 32. They mostly wait (for
	// networks, disks, sleeps), so the number of processors is no measure.
	Slots int
}

// Result is a finished build.
type Result struct {
	Image    store.Image
	Config   digest.Digest
	Manifest image.Descriptor
	Names    []registry.Ref
}

// Build plans, solves and names. Errors from the Dockerfile begin with its position.
func (b Builder) Build(ctx context.Context, o Options) (Result, error) {
	b = b.withDefaults()
	file, err := b.load(o)
	if err != nil {
		return Result{}, err
	}
	lease, err := b.Store.Lease(ctx)
	if err != nil {
		return Result{}, err
	}
	defer lease.Release()
	g, err := b.plan(ctx, file, o)
	if err != nil {
		return Result{}, err
	}
	for _, w := range g.Warnings {
		b.Sink(event.Warning{Pos: w.Pos, Text: w.Text})
	}
	s := newSolver(b, o, g, lease)
	defer s.close()
	s.announce(g)
	last, err := s.solveTarget(ctx, g.Target)
	if err != nil {
		return Result{}, err
	}
	return s.export(ctx, g.Target, last)
}

func (b Builder) withDefaults() Builder {
	if b.Clock == nil {
		b.Clock = time.Now
	}
	if b.Slots == 0 {
		b.Slots = 32
	}
	if b.Sink == nil {
		b.Sink = event.Discard
	}
	return b
}

// load reads and parses the Dockerfile.
func (b Builder) load(o Options) (*dockerfile.File, error) {
	name := dockerfileName(o)
	step := event.Step{ID: stepDockerfile, Name: "[internal] load build definition from " + name}
	done := b.begin(step)
	data := o.Data
	if data == nil {
		path := o.Dockerfile
		if path == "" {
			path = filepath.Join(o.Context, "Dockerfile")
		}
		var err error
		if data, err = os.ReadFile(path); err != nil {
			if os.IsNotExist(err) {
				err = fmt.Errorf("no Dockerfile at %s: name one with -f", path)
			}
			return nil, done(event.Done{}, err)
		}
	}
	file, err := dockerfile.Parse(name, data)
	return file, done(event.Done{}, err)
}

func dockerfileName(o Options) string {
	if o.Dockerfile != "" {
		return filepath.Base(o.Dockerfile)
	}
	return "Dockerfile"
}

// plan makes the graph, with base images looked up in the store.
func (b Builder) plan(ctx context.Context, file *dockerfile.File, o Options) (*graph.Graph, error) {
	platform := o.Platform
	if platform.OS == "" {
		platform = image.DefaultPlatform()
	}
	return graph.Plan(ctx, file, graph.Options{
		Target:        o.Target,
		BuildArgs:     o.BuildArgs,
		Labels:        o.Labels,
		Network:       o.Network,
		Platform:      platform,
		BuildPlatform: image.DefaultPlatform(),
	}, b.resolve)
}

// resolve is the graph's view of base images: those in the store.
func (b Builder) resolve(ctx context.Context, name string, p image.Platform) (graph.Image, error) {
	img, err := b.Store.Lookup(ctx, name)
	if errors.Is(err, registry.ErrAbsent) {
		return graph.Image{}, fmt.Errorf("%w in the local store; load, import or build it first", registry.ErrAbsent)
	}
	if err != nil {
		return graph.Image{}, err
	}
	m, d, err := b.Store.Manifest(ctx, img, &p)
	if err != nil {
		return graph.Image{}, err
	}
	cfg, _, err := b.Store.Config(ctx, m.Config)
	if err != nil {
		return graph.Image{}, err
	}
	return graph.Image{Name: name, Digest: d.Digest, Config: cfg}, nil
}
