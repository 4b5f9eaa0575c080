package graph

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/opencontainers/go-digest"

	"nacre/internal/dockerfile"
	"nacre/internal/image"
	"nacre/internal/reference"
)

// ErrUnsupported is wrapped by errors about what the language has and nacre has
// not yet.
var ErrUnsupported = errors.New("not supported yet")

func unsupported(what string) error { return fmt.Errorf("%s is %w", what, ErrUnsupported) }

// Image is what must be known of a base image before planning.
type Image struct {
	Name   string        // normalized: docker.io/library/debian:12; empty: as it was asked for
	Digest digest.Digest // of its manifest, or empty
	Config image.Config  // with RootFS.DiffIDs and History
}

// Resolver finds a base image. Name is as written, variables expanded. It is
// called from several goroutines, once for each name and platform.
type Resolver func(ctx context.Context, name string, platform image.Platform) (Image, error)

// Options are what a build is given besides the Dockerfile. The zero value
// builds the last stage for this machine.
type Options struct {
	Target string // stage name or number; empty: the last
	// BuildArgs are the values of ARGs. Nil: named, but without a value to be
	// had from the environment, which is as if not named.
	BuildArgs map[string]*string
	Labels    map[string]string // added to the image's
	Network   string            // of RUN where it does not say: "default" (or empty), "none", "host"
	// Allow are the entitlements RUN may ask for: "network.host", "security.insecure".
	Allow []string
	// Platform is what to build for; zero: BuildPlatform, and a base image of
	// another platform gives its own to the image.
	Platform      image.Platform
	BuildPlatform image.Platform // where RUN runs; zero: this machine
	// Contexts are named contexts (--build-context), which stand in for stages
	// and images of their name.
	Contexts map[string]Context
}

// Context is what a named context is: an image, something fetched, or else
// files, which Copy.Context names.
type Context struct {
	Image string // name of the image used instead
	Fetch *Fetch
}

func (c Context) files() bool { return c.Image == "" && c.Fetch == nil }

// ContextName is the name of a context in Options.Contexts: that of an image as people
// write it, so that "docker.io/library/alpine:latest" and "alpine" are one.
func ContextName(name string) string {
	ref, err := reference.Parse(name)
	if err != nil {
		return name
	}
	return strings.TrimSuffix(ref.Familiar(), ":latest")
}

// context finds the named context that stands in for a stage or image called name.
func (p *planner) context(name string) (string, Context, bool) {
	if len(p.o.Contexts) == 0 || name == scratch {
		return "", Context{}, false
	}
	for _, name := range []string{name, ContextName(name)} {
		if c, ok := p.o.Contexts[name]; ok {
			return name, c, true
		}
	}
	return "", Context{}, false
}

// defaultPath is PATH in images that have none, as docker sets it.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// planner is one run of Plan.
type planner struct {
	file    *dockerfile.File
	o       Options
	resolve Resolver
	lex     *shell.Lex // not safe for concurrent use
	lint    *linter.Linter
	args    map[string]string // build arguments that have a value
	globals *vars             // what FROM may use
	target  image.Platform
	epoch   *time.Time
	stages  []*stage // those of the file
	images  []*stage // those that are images named by COPY --from
	byName  map[string]*stage
	steps   []*Step
	fetches map[string]*Step // by their fields
	warned  []Warning
}

// Plan expands f into the steps that o.Target needs. It calls resolve for the
// base images of these, and of no others, at the same time. Errors about f are
// *dockerfile.Error; those wrapping ErrUnsupported name what nacre cannot do yet.
func Plan(ctx context.Context, f *dockerfile.File, o Options, resolve Resolver) (*Graph, error) {
	p := &planner{file: f, o: o, resolve: resolve, lex: shell.NewLex(f.Escape), byName: map[string]*stage{}, args: map[string]string{}}
	for _, w := range f.Warnings {
		p.warned = append(p.warned, Warning(w))
	}
	p.lint = f.Linter(func(w dockerfile.Warning) { p.warned = append(p.warned, Warning(w)) })
	for k, v := range o.BuildArgs {
		if v != nil {
			p.args[k] = *v
		}
	}
	if err := p.prepare(); err != nil {
		return nil, err
	}
	if err := p.makeStages(); err != nil {
		return nil, err
	}
	target, err := p.findTarget()
	if err != nil {
		return nil, err
	}
	if err := p.link(); err != nil {
		return nil, err
	}
	if err := p.resolveStages(ctx, target); err != nil {
		return nil, err
	}
	g := &Graph{Epoch: p.epoch}
	for _, s := range p.stages {
		if !s.reachable {
			g.Skipped = append(g.Skipped, s.id())
			continue
		}
		if err := p.dispatchStage(s); err != nil {
			return nil, err
		}
	}
	p.warnUnused()
	g.Target, g.Steps, g.Warnings = p.result(target), p.steps, p.warned
	if f.Check.ReturnAsError {
		if err := p.violations(); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// prepare checks the options and expands the ARGs before the first FROM.
func (p *planner) prepare() error {
	switch p.o.Network {
	case "", "default", "none", "host":
	default:
		return fmt.Errorf("invalid network mode %q", p.o.Network)
	}
	build := p.o.BuildPlatform
	if build.OS == "" && build.Architecture == "" {
		build = image.DefaultPlatform()
	}
	p.o.BuildPlatform = build
	if p.target = p.o.Platform; p.target.OS == "" && p.target.Architecture == "" {
		p.target = build
	}
	if p.target.OS != build.OS {
		return unsupported(fmt.Sprintf("building for %s on %s", image.FormatPlatform(p.target), image.FormatPlatform(build)))
	}
	p.checkNames()
	p.globals = p.automatic()
	p.checkDefaults()
	if err := p.metaArgs(p.globals, p.args); err != nil {
		return err
	}
	return p.findEpoch()
}

// automatic are the ARGs that are always there for FROM, and for stages that declare them.
func (p *planner) automatic() *vars {
	target := p.o.Target
	if target == "" {
		target = p.file.Stages[len(p.file.Stages)-1].Name
	}
	if target == "" {
		target = "default"
	}
	v := &vars{}
	for _, kv := range [...][2]string{
		{"BUILDPLATFORM", image.FormatPlatform(p.o.BuildPlatform)},
		{"BUILDOS", p.o.BuildPlatform.OS},
		{"BUILDOSVERSION", p.o.BuildPlatform.OSVersion},
		{"BUILDARCH", p.o.BuildPlatform.Architecture},
		{"BUILDVARIANT", p.o.BuildPlatform.Variant},
		{"TARGETPLATFORM", image.FormatPlatform(p.target)},
		{"TARGETOS", p.target.OS},
		{"TARGETOSVERSION", p.target.OSVersion},
		{"TARGETARCH", p.target.Architecture},
		{"TARGETVARIANT", p.target.Variant},
		{"TARGETSTAGE", target},
	} {
		value := kv[1]
		if given, ok := p.args[kv[0]]; ok {
			value = given
		}
		v.set(kv[0], value)
	}
	return v
}

// metaArgs adds the ARGs before the first FROM to v; given values win over defaults.
func (p *planner) metaArgs(v *vars, given map[string]string) error {
	for i := range p.file.MetaArgs {
		c := &p.file.MetaArgs[i]
		for _, a := range c.Args {
			value, ok := given[a.Key]
			if !ok && a.Value != nil {
				var err error
				if value, _, err = expand(p.lex, *a.Value, v); err != nil {
					return p.file.ErrorAt(c.Location(), "", err)
				}
			}
			if ok || a.Value != nil {
				v.set(a.Key, value)
			}
		}
	}
	return nil
}

// findEpoch reads SOURCE_DATE_EPOCH: a build argument, or an ARG before the first FROM.
func (p *planner) findEpoch() error {
	value, ok := p.args["SOURCE_DATE_EPOCH"]
	if !ok {
		value, _ = p.globals.Get("SOURCE_DATE_EPOCH")
	}
	if value == "" {
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return fmt.Errorf("invalid SOURCE_DATE_EPOCH %q: it is a number of seconds since 1970", value)
	}
	t := time.Unix(n, 0).UTC()
	p.epoch = &t
	return nil
}

func (p *planner) findTarget() (*stage, error) {
	if p.o.Target == "" {
		return p.stages[len(p.stages)-1], nil
	}
	if s, ok := p.byName[strings.ToLower(p.o.Target)]; ok {
		return s, nil
	}
	if n, err := strconv.Atoi(p.o.Target); err == nil && n >= 0 && n < len(p.stages) {
		return p.stages[n], nil
	}
	err := fmt.Errorf("%s: target stage %q could not be found", p.file.Name, p.o.Target)
	if hint := dockerfile.DidYouMean(p.o.Target, p.stageNames()); hint != "" {
		err = fmt.Errorf("%w (%s)", err, hint)
	}
	return nil, err
}

// result is what the target stage amounts to, with what the options add.
func (p *planner) result(s *stage) *Result {
	img := s.image
	if len(p.o.Labels) > 0 {
		if img.Config.Labels == nil {
			img.Config.Labels = map[string]string{}
		}
		maps.Copy(img.Config.Labels, p.o.Labels)
	}
	if p.o.Platform.OS != "" {
		same := p.target.OS == img.OS && p.target.Architecture == img.Architecture
		img.OS, img.Architecture = p.target.OS, p.target.Architecture
		if p.target.Variant != "" || !same {
			img.Variant = p.target.Variant
		}
		if p.target.OSVersion != "" || !same {
			img.OSVersion = p.target.OSVersion
		}
		if p.target.OSFeatures != nil {
			img.OSFeatures = slices.Clone(p.target.OSFeatures)
		}
	}
	img.Platform = normalize(img.Platform)
	img.RootFS.Type, img.RootFS.DiffIDs = "layers", nil
	img.History, img.Created = nil, nil
	return &Result{Stage: s.id(), Last: s.last, Config: img, BaseHistory: s.baseHistory, History: s.history}
}
