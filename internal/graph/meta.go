package graph

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// This file has the instructions that change the config only.

// arg is ARG: a given value, else the default, else that of an ARG before the
// first FROM or an automatic one.
func (p *planner) arg(s *stage, c *instructions.ArgCommand) error {
	var texts []string
	for _, a := range c.Args {
		p.lintSecret("ARG", a.Key, c)
		value, given := p.args[a.Key]
		switch {
		case given:
			a.Value = &value
		case a.Value != nil:
			v, matches, err := expand(p.lex, *a.Value, s.env)
			p.lintUndefined(s, c, matches.Unmatched)
			if err != nil {
				return err
			}
			a.Value = &v
		default:
			if v, ok := p.globals.Get(a.Key); ok {
				a.Value = &v
			}
		}
		text := a.Key
		if a.Value != nil {
			text += "=" + *a.Value
			if !notEnv(a.Key) {
				s.env.set(a.Key, *a.Value)
			}
		}
		s.args = append(s.args, a)
		texts = append(texts, text)
	}
	s.record("ARG "+strings.Join(texts, " "), nil)
	return nil
}

// notEnv tells of ARGs that speak to the builder and are no variables.
func notEnv(key string) bool {
	return key == "BUILDKIT_SBOM_SCAN_CONTEXT" || key == "BUILDKIT_SBOM_SCAN_STAGE"
}

func (p *planner) setEnv(s *stage, c *instructions.EnvCommand) {
	text := "ENV"
	for _, e := range c.Env {
		p.lintKeyValue(e, c)
		p.lintSecret("ENV", e.Key, c)
		s.env.set(e.Key, e.Value)
		s.config().Env = addEnv(s.config().Env, e.Key, e.Value)
		text += " " + e.String()
	}
	s.record(text, nil)
}

// addEnv replaces the first variable of that name, or appends.
func addEnv(env []string, key, value string) []string {
	for i, kv := range env {
		if k, _, _ := strings.Cut(kv, "="); k == key {
			env[i] = key + "=" + value
			return env
		}
	}
	return append(env, key+"="+value)
}

func (p *planner) label(s *stage, c *instructions.LabelCommand) {
	if s.config().Labels == nil {
		s.config().Labels = map[string]string{}
	}
	var text strings.Builder
	text.WriteString("LABEL")
	for _, l := range c.Labels {
		p.lintKeyValue(l, c)
		s.config().Labels[l.Key] = l.Value
		text.WriteString(" " + l.String())
	}
	s.record(text.String(), nil)
}

func (p *planner) cmd(s *stage, c *instructions.CmdCommand) {
	p.lintOnce(c, &s.seen.cmd)
	args := c.CmdLine
	if c.PrependShell {
		p.lintShellForm(s, c)
		args = withShell(&s.image, args)
	}
	s.config().Cmd = args
	//lint:ignore SA1019 deprecated, and still written by docker
	s.config().ArgsEscaped = true //nolint:staticcheck // as above
	s.record(fmt.Sprintf("CMD %q", args), nil)
}

// entrypoint is ENTRYPOINT. A CMD of the base means nothing to it; one of this
// stage stays.
func (p *planner) entrypoint(s *stage, c *instructions.EntrypointCommand) {
	p.lintOnce(c, &s.seen.entrypoint)
	args := c.CmdLine
	if c.PrependShell {
		p.lintShellForm(s, c)
		args = withShell(&s.image, args)
	}
	s.config().Entrypoint = args
	if s.seen.cmd == nil {
		s.config().Cmd = nil
	}
	s.record(fmt.Sprintf("ENTRYPOINT %q", args), nil)
}

func (p *planner) healthcheck(s *stage, c *instructions.HealthCheckCommand) {
	p.lintOnce(c, &s.seen.healthcheck)
	h := *c.Health
	s.config().Healthcheck = &h
	s.record(fmt.Sprintf("HEALTHCHECK %+v", h), nil)
}

func (p *planner) volume(s *stage, c *instructions.VolumeCommand) error {
	if s.config().Volumes == nil {
		s.config().Volumes = map[string]struct{}{}
	}
	for _, v := range c.Volumes {
		if v == "" {
			return errors.New("VOLUME specified can not be an empty string")
		}
		s.config().Volumes[v] = struct{}{}
	}
	s.record(fmt.Sprintf("VOLUME %v", c.Volumes), nil)
	return nil
}

// workdir is WORKDIR: the config's, and a step that makes the directory. There
// is no step for the root itself.
func (p *planner) workdir(s *stage, cmd command, c *instructions.WorkdirCommand) {
	p.lintWorkdir(s, c)
	dir := c.Path
	if dir == "" {
		dir = s.config().WorkingDir
	}
	dir = absolute(s.config().WorkingDir, dir)
	s.config().WorkingDir = dir
	var step *Step
	if dir != "/" {
		step = p.step(s, cmd, shown(p.lex, c.String(), s.env), &Workdir{Path: path.Clean(dir), User: s.config().User})
	}
	s.record("WORKDIR "+dir, step)
}
