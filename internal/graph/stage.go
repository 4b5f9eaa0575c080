package graph

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"nacre/internal/dockerfile"
	"nacre/internal/image"
)

// scratch is the name of the image that has nothing.
const scratch = "scratch"

// stage is a FROM and its instructions on their way into steps, or an image that
// COPY --from names.
type stage struct {
	index    int // in planner.stages; -1: an image
	src      dockerfile.Stage
	shown    string // in step names
	base     *stage // FROM an earlier stage; else baseName is an image
	baseName string
	platform image.Platform
	deps     []dep
	commands []command

	reachable, resolved, triggered, dispatched bool

	context     string // name of the context of files s is FROM, or empty
	fetch       *Fetch // what s is FROM where that is neither stage nor image
	from        Image  // where base is nil
	image       image.Config
	baseHistory []image.History
	history     []History
	last        *Step
	empty       *Step // the empty root of a stage without steps, once copied from
	env         *vars // image's ENV and ARGs in scope
	args        []instructions.KeyValuePairOptional
	total       int // steps, as numbered in names
	count       int
	seen        seen
}

// dep is another stage that is copied from.
type dep struct {
	stage *stage
	at    []parser.Range
}

// command is an instruction with the stage it copies from, if any.
type command struct {
	instructions.Command
	origin
	mounts  []origin // of RUN, one for each --mount
	trigger string   // text of the ONBUILD that brought it, or empty
}

// origin is where files come from: a stage or image, a named context, or, with
// neither, the main context.
type origin struct {
	from    *stage
	context string
}

// config is the part of the image that instructions change.
func (s *stage) config() *dockerspec.DockerOCIImageConfig { return &s.image.Config }

// id is the stage's name, or its number.
func (s *stage) id() string {
	switch {
	case s.src.Name != "":
		return s.src.Name
	case s.index < 0:
		return ""
	}
	return strconv.Itoa(s.index)
}

// makeStages expands the FROM lines and finds which are FROM earlier stages.
func (p *planner) makeStages() error {
	for i, src := range p.file.Stages {
		s := &stage{index: i, src: src, shown: src.Name, platform: p.target}
		if s.shown == "" {
			s.shown = fmt.Sprintf("stage-%d", i)
		}
		name, matches, err := expand(p.lex, src.BaseName, p.globals)
		p.lintFrom(s, matches)
		if err != nil {
			return p.file.ErrorAt(src.Location, src.BaseName, err)
		}
		if name == "" {
			return p.file.ErrorAt(src.Location, src.BaseName, fmt.Errorf("base name (%s) should not be blank", src.BaseName))
		}
		s.baseName = name
		if src.Platform != "" {
			if err := p.fromPlatform(s); err != nil {
				return p.file.ErrorAt(src.Location, "--platform="+src.Platform, err)
			}
		}
		s.base = p.byName[name]
		p.stages = append(p.stages, s)
		if src.Name != "" {
			p.byName[strings.ToLower(src.Name)] = s
			p.standIn(s)
		}
		s.total = countSteps(s)
	}
	return nil
}

// standIn replaces a stage by the named context of its name.
func (p *planner) standIn(s *stage) {
	name, _, ok := p.context(s.src.Name)
	if !ok {
		return
	}
	s.src.Commands, s.base = nil, nil
	s.baseName = name // which resolving finds to be the context
}

func (p *planner) fromPlatform(s *stage) error {
	value, matches, err := expand(p.lex, s.src.Platform, p.globals)
	p.lintPlatform(s, matches)
	if err != nil {
		return err
	}
	if value == "" {
		return fmt.Errorf("empty platform value from expression %s", s.src.Platform)
	}
	s.platform, err = image.ParsePlatform(value)
	return err
}

// countSteps is how many steps a stage has in step names.
func countSteps(s *stage) int {
	n := 0
	if s.baseName != scratch && s.base == nil {
		n++
	}
	for _, c := range s.src.Commands {
		switch c.(type) {
		case *instructions.AddCommand, *instructions.CopyCommand, *instructions.RunCommand, *instructions.WorkdirCommand:
			n++
		}
	}
	return n
}

// link finds for each COPY --from what it names.
func (p *planner) link() error {
	for _, s := range p.stages {
		for _, c := range s.src.Commands {
			linked, err := p.linkCommand(s, c)
			if err != nil {
				return p.file.ErrorAt(c.Location(), "", err)
			}
			s.commands = append(s.commands, linked)
		}
	}
	if len(p.stages)+len(p.images) == 1 {
		p.stages[0].shown = ""
	}
	return p.checkCircles()
}

// linkCommand finds what c copies from: a stage by number or name, a named
// context, or else an image.
func (p *planner) linkCommand(s *stage, c instructions.Command) (command, error) {
	cmd := command{Command: c}
	if run, ok := c.(*instructions.RunCommand); ok {
		return p.linkMounts(s, cmd, run)
	}
	cc, ok := c.(*instructions.CopyCommand)
	if !ok || cc.From == "" {
		return cmd, nil
	}
	if plain, _, err := expand(p.lex, cc.From, &vars{}); err != nil {
		return cmd, err
	} else if plain != cc.From {
		return cmd, errors.New("variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround")
	}
	var err error
	cmd.origin, err = p.findOrigin(s, cc.From, c.Location())
	return cmd, err
}

// findOrigin finds what name stands for after "from=", and notes that s needs it.
func (p *planner) findOrigin(s *stage, name string, at []parser.Range) (origin, error) {
	var o origin
	if n, err := strconv.Atoi(name); err == nil {
		if n < 0 || n >= len(p.stages) {
			return o, fmt.Errorf("invalid stage index %d: there are stages 0 to %d", n, len(p.stages)-1)
		}
		o.from = p.stages[n]
	} else if named, ok := p.byName[strings.ToLower(name)]; ok {
		o.from = named
	} else if key, ctx, ok := p.context(name); ok && ctx.files() {
		return origin{context: key}, nil
	} else {
		o.from = p.imageStage(name, at)
	}
	s.deps = append(s.deps, dep{o.from, at})
	return o, nil
}

// imageStage is an image as a stage to copy from, the same one for every use.
func (p *planner) imageStage(name string, at []parser.Range) *stage {
	for _, s := range p.images {
		if s.baseName == name {
			return s
		}
	}
	s := &stage{index: -1, baseName: name, platform: p.target, src: dockerfile.Stage{BaseName: name, Location: at}}
	p.images = append(p.images, s)
	return s
}

// checkCircles refuses stages that copy from each other. FROM cannot go in
// circles: it sees earlier stages only.
func (p *planner) checkCircles() error {
	const visiting, done = 1, 2
	state := map[*stage]int{}
	var visit func(s *stage) error
	visit = func(s *stage) error {
		state[s] = visiting
		defer func() { state[s] = done }()
		next := slices.Clone(s.deps)
		if s.base != nil {
			next = append(next, dep{s.base, s.src.Location})
		}
		for _, d := range next {
			switch state[d.stage] {
			case visiting:
				return p.file.ErrorAt(d.at, d.stage.id(), fmt.Errorf("circular dependency detected on stage: %s", d.stage.id()))
			case 0:
				if err := visit(d.stage); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, s := range p.stages {
		if state[s] == 0 {
			if err := visit(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// reach marks s and what it needs.
func reach(s *stage) {
	if s.reachable {
		return
	}
	s.reachable = true
	if s.base != nil {
		reach(s.base)
	}
	for _, d := range s.deps {
		reach(d.stage)
	}
}

func (p *planner) stageNames() []string {
	var names []string
	for _, s := range p.stages {
		if s.src.Name != "" {
			names = append(names, s.src.Name)
		}
	}
	return names
}
