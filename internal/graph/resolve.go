package graph

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"golang.org/x/sync/errgroup"

	"nacre/internal/dockerfile"
	"nacre/internal/image"
	"nacre/internal/reference"
)

// resolveStages marks the stages that target needs and finds their base images.
// ONBUILD triggers of these can need more stages and images: it goes on until
// there are no more.
func (p *planner) resolveStages(ctx context.Context, target *stage) error {
	for {
		for _, s := range p.stages {
			s.reachable = false
		}
		for _, s := range p.images {
			s.reachable = false
		}
		reach(target)
		if err := p.resolveImages(ctx); err != nil {
			return err
		}
		more, err := p.addTriggers()
		if err != nil || !more {
			return err
		}
	}
}

// resolveImages calls the resolver for the images of reachable stages, each name
// and platform once, at the same time.
func (p *planner) resolveImages(ctx context.Context) error {
	type want struct{ name, platform string }
	users := map[want][]*stage{}
	var wanted []want
	for _, s := range append(slices.Clone(p.stages), p.images...) {
		if !s.reachable || s.resolved || s.base != nil {
			continue
		}
		s.resolved = true
		if err := p.checkBase(s); err != nil {
			return p.file.ErrorAt(s.src.Location, "", err)
		}
		if s.baseName == scratch || s.context != "" || s.fetch != nil {
			continue
		}
		w := want{s.baseName, image.FormatPlatform(s.platform)}
		if users[w] == nil {
			wanted = append(wanted, w)
		}
		users[w] = append(users[w], s)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range wanted {
		g.Go(func() error {
			s := users[w][0]
			img, err := p.resolve(ctx, s.baseName, s.platform)
			if err != nil {
				return p.unresolved(s, err)
			}
			if img.Name == "" {
				img.Name = s.baseName
			}
			for _, s := range users[w] {
				s.from = img
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, w := range wanted {
		p.lintBase(users[w][0])
	}
	return nil
}

// checkBase applies named contexts to the base of s, and refuses what cannot be
// built on here.
func (p *planner) checkBase(s *stage) error {
	if name, c, ok := p.context(s.baseName); ok {
		switch {
		case c.files():
			s.context = name
		case c.Fetch != nil:
			s.fetch = c.Fetch
		default:
			s.baseName = c.Image
		}
	}
	if s.platform.OS != p.o.BuildPlatform.OS {
		return unsupported(fmt.Sprintf("platform %s on %s", image.FormatPlatform(s.platform), image.FormatPlatform(p.o.BuildPlatform)))
	}
	return nil
}

// unresolved says where an image is wanted, and which stage may have been meant.
func (p *planner) unresolved(s *stage, err error) error {
	e := p.file.ErrorAt(s.src.Location, s.src.BaseName, fmt.Errorf("%s: %w", s.baseName, err))
	if e.Hint == "" {
		e.Hint = dockerfile.DidYouMean(s.baseName, append(p.stageNames(), "alpine", "busybox", "debian", "fedora", "golang", "node", "python", "scratch", "ubuntu"))
	}
	return e
}

func (p *planner) lintBase(s *stage) {
	if have := s.from.Config.Platform; have.OS != s.platform.OS || have.Architecture != s.platform.Architecture {
		rule := &linter.RuleInvalidBaseImagePlatform
		p.lint.Run(rule, s.src.Location, rule.Format(s.src.BaseName, image.FormatPlatform(s.platform), image.FormatPlatform(normalize(have))))
	}
}

// addTriggers puts ONBUILD triggers before the instructions of the stages whose
// base has them. It tells whether stages are needed that were not before.
func (p *planner) addTriggers() (more bool, err error) {
	for _, s := range p.stages {
		if !s.reachable || s.triggered {
			continue
		}
		s.triggered = true
		var added []command
		for _, text := range triggers(s) {
			cmd, err := p.trigger(s, text)
			if err != nil {
				e := p.file.ErrorAt(s.src.Location, s.src.BaseName, fmt.Errorf("ONBUILD %s: %w", firstLine(text), err))
				return false, e
			}
			more = more || cmd.from != nil || slices.ContainsFunc(cmd.mounts, func(o origin) bool { return o.from != nil })
			added = append(added, cmd)
		}
		s.commands = append(added, s.commands...)
		s.total += len(added)
	}
	return more, nil
}

// triggers are the ONBUILD instructions of what s is FROM.
func triggers(s *stage) []string {
	if s.base == nil {
		return s.from.Config.Config.OnBuild
	}
	var texts []string
	for _, c := range s.base.src.Commands {
		if o, ok := c.(*instructions.OnbuildCommand); ok {
			texts = append(texts, o.Expression)
		}
	}
	return texts
}

func (p *planner) trigger(s *stage, text string) (command, error) {
	c, err := p.file.Trigger(text, s.src.Location)
	if err != nil {
		return command{}, err
	}
	cmd, err := p.linkCommand(s, c)
	cmd.trigger = text
	return cmd, err
}

// inherit gives s the root, config and variables of what it is FROM.
func (p *planner) inherit(s *stage) {
	switch {
	case s.base != nil:
		b := s.base
		s.image, s.last, s.platform = cloneImage(b.image), b.last, b.platform
		s.history, s.baseHistory = slices.Clone(b.history), b.baseHistory
		s.env, s.args = b.env.clone(), slices.Clone(b.args)
		s.seen.workdir = b.seen.workdir
	case s.baseName == scratch:
		s.image = emptyImage(s.platform)
		s.env = &vars{}
	case s.context != "" || s.fetch != nil:
		s.image = emptyImage(s.platform)
		s.last = p.baseStep(s)
		s.history = []History{{CreatedBy: "FROM context " + s.baseName, Comment: comment, Step: s.last}}
		s.env = &vars{}
	default:
		s.image = cloneImage(s.from.Config)
		s.baseHistory = image.WholeHistory(s.from.Config.History, len(s.from.Config.RootFS.DiffIDs))
		s.last = p.baseStep(s)
		s.env = &vars{}
	}
	s.config().OnBuild = nil
	s.image.Created = nil
}

// baseStep is the step that stands for the image s is FROM, or for the context in its place.
func (p *planner) baseStep(s *stage) *Step {
	switch pos := p.file.Pos(s.src.Location); {
	case s.fetch != nil:
		s.total = max(0, s.total-1) // what is fetched has no number
		return p.fetch(s, pos, s.fetch)
	case s.context != "":
		return p.addStep(s, pos, "FROM context "+s.context, &Copy{Context: s.context, Sources: []string{"."}, Written: []string{"."}, Dest: "/"})
	}
	op := &Base{Name: fullName(s.from.Name), Digest: s.from.Digest, DiffIDs: s.from.Config.RootFS.DiffIDs}
	text := "FROM " + op.Name
	if op.Digest != "" && !strings.Contains(op.Name, "@") {
		text += "@" + op.Digest.String()
	}
	return p.addStep(s, p.file.Pos(s.src.Location), text, op)
}

// fullName is how docker writes a name in full: docker.io/library/debian:latest.
// What is not a name, an image's ID for one, stays.
func fullName(name string) string {
	ref, err := reference.Parse(name)
	if err != nil {
		return name
	}
	return ref.Tagged().String()
}

// rootOf is the step that has the root of a stage copied from, which COPY needs
// even where that root is empty.
func (p *planner) rootOf(s *stage) *Step {
	if s.last != nil {
		return s.last
	}
	switch {
	case s.index < 0 && s.baseName != scratch:
		s.last = p.baseStep(s)
		return s.last
	case s.empty == nil:
		s.empty = p.addStep(&stage{index: s.index, src: s.src}, p.file.Pos(s.src.Location), "FROM scratch", &Base{Name: scratch})
	}
	return s.empty
}

// emptyImage is the config of FROM scratch.
func emptyImage(platform image.Platform) image.Config {
	var img image.Config
	img.Platform = platform
	img.RootFS.Type = "layers"
	img.Config.WorkingDir = "/"
	img.Config.Env = []string{"PATH=" + defaultPath}
	return img
}

// cloneImage copies all of a config that instructions change.
func cloneImage(img image.Config) image.Config {
	c := &img.Config
	c.Env, c.Cmd, c.Entrypoint = slices.Clone(c.Env), slices.Clone(c.Cmd), slices.Clone(c.Entrypoint)
	c.OnBuild, c.Shell = slices.Clone(c.OnBuild), slices.Clone(c.Shell)
	c.ExposedPorts, c.Volumes, c.Labels = maps.Clone(c.ExposedPorts), maps.Clone(c.Volumes), maps.Clone(c.Labels)
	if c.Healthcheck != nil {
		h := *c.Healthcheck
		h.Test = slices.Clone(h.Test)
		c.Healthcheck = &h
	}
	return img
}
