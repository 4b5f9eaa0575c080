package graph

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"nacre/internal/image"
)

// comment marks history entries, as docker's clients expect of a Dockerfile build.
const comment = "buildkit.dockerfile.v0"

// dispatchStage turns the instructions of s into steps, config and history.
func (p *planner) dispatchStage(s *stage) error {
	p.inherit(s)
	c := s.config()
	if !slices.ContainsFunc(c.Env, func(kv string) bool { return kv == "PATH" || strings.HasPrefix(kv, "PATH=") }) {
		c.Env = append(c.Env, "PATH="+defaultPath)
	}
	for _, kv := range c.Env {
		k, v, _ := strings.Cut(kv, "=")
		s.env.set(k, v)
	}
	if c.WorkingDir != "" {
		c.WorkingDir = absolute("/", c.WorkingDir)
	}
	for _, cmd := range s.commands {
		if err := p.dispatch(s, cmd); err != nil {
			if cmd.trigger != "" {
				err = fmt.Errorf("ONBUILD %s: %w", firstLine(cmd.trigger), err)
			}
			return p.file.ErrorAt(cmd.Location(), "", err)
		}
	}
	s.dispatched = true
	return nil
}

// dispatch applies one instruction.
func (p *planner) dispatch(s *stage, cmd command) error {
	whole := p.lint
	defer func() { p.lint = whole }()
	p.lint = p.lint.WithMergedConfigFromComments(cmd.Comments())
	c := cloneCommand(cmd.Command)
	if err := p.expandCommand(s, c); err != nil {
		return err
	}
	switch c := c.(type) {
	case *instructions.AddCommand:
		return p.add(s, cmd, c)
	case *instructions.ArgCommand:
		return p.arg(s, c)
	case *instructions.CmdCommand:
		p.cmd(s, c)
	case *instructions.CopyCommand:
		return p.copy(s, cmd, c)
	case *instructions.EntrypointCommand:
		p.entrypoint(s, c)
	case *instructions.EnvCommand:
		p.setEnv(s, c)
	case *instructions.ExposeCommand:
		return p.expose(s, c)
	case *instructions.HealthCheckCommand:
		p.healthcheck(s, c)
	case *instructions.LabelCommand:
		p.label(s, c)
	case *instructions.MaintainerCommand:
		s.image.Author = c.Maintainer
		s.record("MAINTAINER "+c.Maintainer, nil)
	case *instructions.OnbuildCommand:
		s.config().OnBuild = append(s.config().OnBuild, c.Expression)
	case *instructions.RunCommand:
		return p.run(s, cmd, c)
	case *instructions.ShellCommand:
		s.config().Shell = c.Shell
		s.record(fmt.Sprintf("SHELL %v", c.Shell), nil)
	case *instructions.StopSignalCommand:
		if err := checkSignal(c.Signal); err != nil {
			return err
		}
		s.config().StopSignal = c.Signal
		s.record("STOPSIGNAL "+c.Signal, nil)
	case *instructions.UserCommand:
		s.config().User = c.User
		s.record("USER "+c.User, nil)
	case *instructions.VolumeCommand:
		return p.volume(s, c)
	case *instructions.WorkdirCommand:
		p.workdir(s, cmd, c)
	default:
		return unsupported(c.Name())
	}
	return nil
}

// expandCommand replaces the variables in c, which is the caller's own. ARG sees
// those it sets itself, so it does its own; EXPOSE splits words; RUN leaves them to its shell.
func (p *planner) expandCommand(s *stage, c instructions.Command) error {
	word := func(lex *shell.Lex) instructions.SingleWordExpander {
		return func(word string) (string, error) {
			result, matches, err := expand(lex, word, s.env)
			p.lintUndefined(s, c, matches.Unmatched)
			return result, err
		}
	}
	switch c.(type) {
	case *instructions.ArgCommand, *instructions.RunCommand:
		return nil
	}
	if x, ok := c.(instructions.SupportsSingleWordExpansion); ok {
		if err := x.Expand(word(p.lex)); err != nil {
			return err
		}
	}
	if x, ok := c.(instructions.SupportsSingleWordExpansionRaw); ok {
		lex := shell.NewLex('\\')
		lex.SkipProcessQuotes = true
		return x.ExpandRaw(word(lex))
	}
	return nil
}

// cloneCommand copies c as far as expansion changes it, so that a File can be
// planned many times.
func cloneCommand(c instructions.Command) instructions.Command {
	switch c := c.(type) {
	case *instructions.AddCommand:
		d := *c
		d.SourcesAndDest = cloneSources(c.SourcesAndDest)
		return &d
	case *instructions.CopyCommand:
		d := *c
		d.SourcesAndDest = cloneSources(c.SourcesAndDest)
		return &d
	case *instructions.EnvCommand:
		d := *c
		d.Env = slices.Clone(c.Env)
		return &d
	case *instructions.LabelCommand:
		d := *c
		d.Labels = slices.Clone(c.Labels)
		return &d
	case *instructions.StopSignalCommand:
		d := *c
		return &d
	case *instructions.UserCommand:
		d := *c
		return &d
	case *instructions.VolumeCommand:
		d := *c
		d.Volumes = slices.Clone(c.Volumes)
		return &d
	case *instructions.WorkdirCommand:
		d := *c
		return &d
	}
	return c
}

func cloneSources(s instructions.SourcesAndDest) instructions.SourcesAndDest {
	s.SourcePaths, s.SourceContents = slices.Clone(s.SourcePaths), slices.Clone(s.SourceContents)
	return s
}

// addStep appends a step that works on the root s has so far.
func (p *planner) addStep(s *stage, pos, text string, op Op) *Step {
	step := &Step{ID: len(p.steps), Stage: s.id(), Pos: pos, Name: s.title(text), Parent: s.last, Op: op}
	p.steps = append(p.steps, step)
	return step
}

// title puts the stage and the step's number before text: `[builder 2/5] RUN make`.
func (s *stage) title(text string) string {
	if s.total == 0 {
		return text
	}
	s.count++
	shown := s.shown
	if shown != "" {
		shown += " "
	}
	return fmt.Sprintf("[%s%*d/%d] %s", shown, len(strconv.Itoa(s.total)), s.count, s.total, text)
}

// step is addStep for an instruction, whose root is then that of the stage.
func (p *planner) step(s *stage, cmd command, text string, op Op) *Step {
	if cmd.trigger != "" {
		text = "ONBUILD " + text
	}
	s.last = p.addStep(s, p.file.Pos(cmd.Location()), text, op)
	c := s.config()
	s.last.Setting = Setting{Shell: c.Shell, Env: s.env.environ(), Dir: path.Clean("/" + c.WorkingDir), User: c.User}
	return s.last
}

// record appends to the history.
func (s *stage) record(text string, step *Step) {
	s.history = append(s.history, History{CreatedBy: text, Comment: comment, Step: step})
}

// shown is how an instruction is called in the name of its step: variables
// expanded, instruction in capitals.
func shown(lex *shell.Lex, text string, env *vars) string {
	if s, _, err := expand(lex, text, env); err == nil {
		text = s
	}
	word, rest, ok := strings.Cut(text, " ")
	if !ok {
		return strings.ToUpper(word)
	}
	return strings.ToUpper(word) + " " + rest
}

// absolute is p as seen from the directory dir.
func absolute(dir, p string) string {
	if path.IsAbs(p) {
		return p
	}
	return path.Join("/", dir, p)
}

func firstLine(s string) string {
	line, _, more := strings.Cut(s, "\n")
	if more {
		line += "..."
	}
	return line
}

// shellOf is what a shell form is prefixed with.
func shellOf(img *image.Config) []string {
	if len(img.Config.Shell) > 0 {
		return slices.Clone(img.Config.Shell)
	}
	return []string{"/bin/sh", "-c"}
}

func withShell(img *image.Config, args []string) []string {
	return append(shellOf(img), strings.Join(args, " "))
}
