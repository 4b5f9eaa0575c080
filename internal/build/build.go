// Package build turns a Dockerfile and a context into an image. It is the one
// place that knows all the others: graph plans, the solver in solve.go walks the
// plan, and one file per operation says how its layer is made.
package build

import (
	"context"
	"io"
	"time"

	"nacre/internal/cache"
	"nacre/internal/dockerfile"
	"nacre/internal/event"
	"nacre/internal/graph"
	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/lazy"
	"nacre/internal/registry/store"
	"nacre/internal/rootfs"
	"nacre/internal/source/remote"

	"github.com/opencontainers/go-digest"
)

// Options says what to build. The zero value of each field is the usual choice.
type Options struct {
	// Context is a directory, the URL of a git repository (#ref:subdir), of a tar or of a Dockerfile;
	// empty: no context at all (Dockerfile on stdin).
	Context string
	Tar     io.Reader // the context as a tar, compressed or not, in place of Context
	// Contexts are those that have a name: a directory, docker-image://NAME,
	// oci-layout://DIR[:TAG][@DIGEST], or a URL of git or http.
	Contexts map[string]string
	// Dockerfile is a path on this machine, or a URL. In a Context that is no directory a path that
	// is not absolute is one below its top. Empty: Dockerfile, or else dockerfile, in the context.
	Dockerfile string
	Data       []byte // its text, where it does not come from a file
	Names      []registry.Ref
	BuildArgs  map[string]*string
	Labels     map[string]string
	Target     string
	Network    string // of RUN steps that do not say: "default", "none", "host"
	NoCache    bool
	Explain    bool           // tell why steps were executed (event.Done.Why), which takes a look at earlier records
	Pull       bool           // look for newer base images than those in the store
	Hosts      []string       // extra lines of /etc/hosts, "NAME:IP"
	Platform   image.Platform // zero: this machine's
	// NoImage leaves the image out of the store: it goes into Outputs alone.
	NoImage bool
	Outputs []Output
	// NoCacheFilter names the stages whose steps run whatever is cached.
	NoCacheFilter []string
	// Secret gives the value of a secret; nil where there is none of that ID.
	Secret func(id string) ([]byte, error)
	// SSHAgent is the socket of an agent whose keys git may use for sources; empty: none.
	SSHAgent string
	// FreshCaches: caches that RUN mounts begin empty, and go when the build ends.
	FreshCaches bool
	Squash      bool // the image gets one layer over those of its base
	// SSH are the sockets of agents that RUN may mount, by ID.
	SSH map[string]string
	// Allow are the entitlements RUN may ask for: "network.host", "security.insecure",
	// "device" or "device=NAME[,alias=NAME]". CheckAllow tells whether they are.
	Allow []string
	// CacheFrom are caches to look into after the store's own, CacheTo where to write them.
	CacheFrom []CacheFrom
	CacheTo   []CacheTo
	// InlineCache puts the records that lead to the image's layers into the image.
	InlineCache bool
	// Limits hold for every RUN step. They are not part of what a step is: one that is cached
	// stays so, whatever they were.
	Limits Limits
	// Debug, where it is set, is shown the first step that fails while its root is still
	// there; all others were stopped then. The build fails after it returned.
	Debug func(context.Context, FailedStep)
	// DeviceDirs are where CDI specs are looked for; none: device.Dirs.
	DeviceDirs []string
}

// Builder builds into a store.
type Builder struct {
	Store *store.Store
	Cache cache.Cache
	Sink  event.Sink
	// Images pulls base images that are not in the store; nil: they have to be there.
	Images Images
	// Clock gives the time of steps; nil is time.Now.
	Clock func() time.Time
	// Slots is how many RUN steps execute at once; 0: 32. They mostly wait (for
	// networks, disks, sleeps), so the number of processors is no measure.
	Slots int
	// Chroot has RUN steps executed without namespaces and mounts, which takes root.
	Chroot bool
	// NoRun is why RUN steps cannot be executed at all; empty: they can.
	NoRun string
	HTTP  remote.Client // gets files from URLs; the zero value is ready
}

// Result is a finished build.
type Result struct {
	Image    store.Image // zero with NoImage
	Config   digest.Digest
	Manifest image.Descriptor
	Names    []registry.Ref
	Reader   registry.Reader // of the image, by its manifest's digest
	Root     *rootfs.FS      // what is in the image; nil where all outputs are Remote
	Platform image.Platform
	Created  *time.Time // from the config
	Base     int        // how many of the layers, from the bottom, are those of the base image
	Epoch    *time.Time // SOURCE_DATE_EPOCH, or nil

	// MountFrom names repositories that may have a blob of it: for registry.CopyOptions.
	MountFrom func(registry.Descriptor) []string

	// For outputs that have steps of their own: where to tell of them, and IDs, one call at a time.
	Sink event.Sink
	Step func() int
}

// Build plans, solves and names. Errors from the Dockerfile begin with its position.
func (b Builder) Build(ctx context.Context, o Options) (Result, error) {
	return b.build(ctx, o, func(*solver, *graph.Graph) error { return nil })
}

// build is Build; solved is called when all steps are done and their layers are still leased.
func (b Builder) build(ctx context.Context, o Options, solved func(*solver, *graph.Graph) error) (Result, error) {
	b = b.withDefaults()
	lease, err := b.Store.Lease(ctx)
	if err != nil {
		return Result{}, err
	}
	spare := &spareLayers{}
	defer spare.drop(ctx, b.Store)
	defer lease.Release()
	source := newContextSource(b, o, lease)
	defer source.close()
	file, err := b.load(ctx, o, source)
	if err != nil {
		return Result{}, err
	}
	ids := &stepIDs{next: stepPull + stepPulls}
	layers := lazy.New(b.Store, lease.Layer, registry.CopyOptions{Sink: b.Sink, Step: ids.take})
	g, err := b.plan(ctx, file, o, lease, layers)
	if err != nil {
		return Result{}, err
	}
	for _, w := range g.Warnings {
		b.Sink(event.Warning{Pos: w.Pos, Text: w.Text})
	}
	s := newSolver(b, o, g, lease, layers, source)
	defer s.close()
	s.whenSolved, s.spare = solved, spare
	if err := s.findDevices(g); err != nil {
		return Result{}, err
	}
	s.announce(g)
	if err := s.importCaches(ctx); err != nil {
		return Result{}, err
	}
	r, err := s.finish(ctx, g)
	for s.lost(ctx, g, err) { // each time one layer less
		r, err = s.finish(ctx, g)
	}
	return r, located(file, err)
}

// finish solves what the target needs, and hands it out.
func (s *solver) finish(ctx context.Context, g *graph.Graph) (Result, error) {
	last, err := s.solveTarget(ctx, g.Target)
	if err != nil {
		return Result{}, err
	}
	if err := s.whenSolved(s, g); err != nil {
		return Result{}, err
	}
	r, err := s.export(ctx, g.Target, last)
	if err != nil {
		return r, err
	}
	return r, s.exportCaches(ctx, g, last.layers)
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
func (b Builder) load(ctx context.Context, o Options, source *contextSource) (*dockerfile.File, error) {
	name := dockerfileName(o)
	step := event.Step{ID: stepDockerfile, Name: "[internal] load build definition from " + name}
	done := b.begin(step)
	data, err := source.dockerfile(ctx)
	if err != nil {
		return nil, done(event.Done{}, err)
	}
	file, err := dockerfile.Parse(name, data)
	return file, done(event.Done{}, err)
}

// plan makes the graph, with base images looked up in the store or pulled.
func (b Builder) plan(ctx context.Context, file *dockerfile.File, o Options, lease *store.Lease, layers *lazy.Layers) (*graph.Graph, error) {
	platform := o.Platform
	if platform.OS == "" {
		platform = image.DefaultPlatform()
	}
	contexts, err := namedContexts(o.Contexts)
	if err != nil {
		return nil, err
	}
	return graph.Plan(ctx, file, graph.Options{
		Contexts:      contexts,
		Target:        o.Target,
		BuildArgs:     o.BuildArgs,
		Labels:        o.Labels,
		Network:       o.Network,
		Allow:         o.Allow,
		Platform:      platform,
		BuildPlatform: image.DefaultPlatform(),
	}, (&bases{Builder: b, contexts: contexts, always: o.Pull, lazily: len(o.CacheFrom) > 0, lease: lease, layers: layers}).resolve)
}
