package graph

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"nacre/internal/dockerfile"
	"nacre/internal/image"
	"nacre/internal/reference"
)

// This file has docker's build checks, as far as they concern what stages and
// variables mean. Rules and texts are those of BuildKit's linter package.

// seen is what a stage had already: where, for instructions of which only the last counts.
type seen struct {
	cmd, entrypoint, healthcheck []parser.Range
	workdir                      bool
}

func (p *planner) lintOnce(c instructions.Command, at *[]parser.Range) {
	if *at != nil {
		rule := &linter.RuleMultipleInstructionsDisallowed
		p.lint.Run(rule, *at, rule.Format(c.Name()))
	}
	*at = c.Location()
}

func (p *planner) lintShellForm(s *stage, c instructions.Command) {
	if len(s.config().Shell) == 0 {
		rule := &linter.RuleJSONArgsRecommended
		p.lint.Run(rule, c.Location(), rule.Format(c.Name()))
	}
}

func (p *planner) lintKeyValue(kv instructions.KeyValuePair, c instructions.Command) {
	if kv.NoDelim {
		rule := &linter.RuleLegacyKeyValueFormat
		p.lint.Run(rule, c.Location(), rule.Format(c.Name()))
	}
}

func (p *planner) lintWorkdir(s *stage, c *instructions.WorkdirCommand) {
	if !s.seen.workdir && !strings.HasPrefix(c.Path, "/") {
		rule := &linter.RuleWorkdirRelativePath
		p.lint.Run(rule, c.Location(), rule.Format(c.Path))
	}
	s.seen.workdir = true
}

// lintSecret warns of names that sound like secrets.
func (p *planner) lintSecret(instruction, key string, c instructions.Command) {
	if SoundsSecret(key) {
		rule := &linter.RuleSecretsUsedInArgOrEnv
		p.lint.Run(rule, c.Location(), rule.Format(instruction, key))
	}
}

// SoundsSecret tells names of variables that are probably secrets: api_key, DATABASE_PASSWORD.
func SoundsSecret(name string) (secret bool) {
	for word := range strings.SplitSeq(strings.ToLower(name), "_") {
		switch word {
		case "public", "file", "version":
			return false
		case "apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token":
			secret = true
		}
	}
	return secret
}

func (p *planner) lintUndefined(s *stage, c instructions.Command, names map[string]struct{}) {
	for _, name := range slices.Sorted(maps.Keys(names)) {
		declared := slices.ContainsFunc(s.args, func(a instructions.KeyValuePairOptional) bool { return a.Key == name })
		if declared || notEnv(name) {
			continue
		}
		rule := &linter.RuleUndefinedVar
		p.lint.Run(rule, c.Location(), rule.Format(name, near(name, s.env.Keys())))
	}
}

// near is the option like name, or empty.
func near(name string, options []string) string {
	hint := dockerfile.DidYouMean(name, options)
	return strings.TrimSuffix(strings.TrimPrefix(hint, "did you mean "), "?")
}

func (p *planner) lintFrom(s *stage, m shell.ProcessWordResult) {
	known := slices.Clone(p.globals.Keys())
	for i := range p.file.MetaArgs {
		for _, a := range p.file.MetaArgs[i].Args {
			known = append(known, a.Key)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Unmatched)) {
		if slices.Contains(known, name) {
			continue
		}
		rule := &linter.RuleUndefinedArgInFrom
		p.lint.Run(rule, s.src.Location, rule.Format(name, near(name, known)))
	}
}

func (p *planner) lintPlatform(s *stage, m shell.ProcessWordResult) {
	p.lintFrom(s, m)
	if target, _ := p.globals.Get("TARGETPLATFORM"); len(m.Matched) == 1 && len(m.Unmatched) == 0 && m.Result == target {
		if _, ok := m.Matched["TARGETPLATFORM"]; ok {
			rule := &linter.RuleRedundantTargetPlatform
			p.lint.Run(rule, s.src.Location, rule.Format(s.src.Platform))
		}
	}
	if len(m.Matched) > 0 || len(m.Unmatched) > 0 {
		return
	}
	if pl, err := image.ParsePlatform(m.Result); err == nil && !strings.Contains(s.src.Name, pl.OS) && !strings.Contains(s.src.Name, pl.Architecture) {
		rule := &linter.RuleFromPlatformFlagConstDisallowed
		p.lint.Run(rule, s.src.Location, rule.Format(m.Result))
	}
}

// checkNames warns of stage names used twice or reserved, and of mixed case.
func (p *planner) checkNames() {
	names := map[string]bool{}
	for _, s := range p.file.Stages {
		if s.Name == "context" || s.Name == scratch {
			rule := &linter.RuleReservedStageName
			p.lint.Run(rule, s.Location, rule.Format(s.Name))
		}
		if s.Name != "" && names[s.Name] {
			rule := &linter.RuleDuplicateStageName
			p.lint.Run(rule, s.Location, rule.Format(s.Name))
		}
		names[s.Name] = true
	}
	p.checkCase()
}

// checkCase warns of instructions that are not in the case most others are in.
func (p *planner) checkCase() {
	balance := 0 // upper minus lower
	each := func(visit func(name string, at []parser.Range)) {
		for _, s := range p.file.Stages {
			visit(s.OrigCmd, s.Location)
			for _, c := range s.Commands {
				visit(c.Name(), c.Location())
			}
		}
	}
	each(func(name string, _ []parser.Range) {
		switch name {
		case strings.ToLower(name):
			balance--
		case strings.ToUpper(name):
			balance++
		}
	})
	want, convert := "uppercase", strings.ToUpper
	if balance < 0 {
		want, convert = "lowercase", strings.ToLower
	}
	each(func(name string, at []parser.Range) {
		if convert(name) != name {
			rule := &linter.RuleConsistentInstructionCasing
			p.lint.Run(rule, at, rule.Format(name, want))
		}
	})
}

// checkDefaults warns of base names that are none without build arguments.
func (p *planner) checkDefaults() {
	v := p.globals.clone()
	if err := p.metaArgs(v, nil); err != nil {
		return // the same error is to come
	}
	for _, s := range p.file.Stages {
		name, _, err := expand(p.lex, s.BaseName, v)
		if err != nil {
			return
		}
		if _, err := reference.Parse(name); err != nil {
			rule := &linter.RuleInvalidDefaultArgInFrom
			p.lint.Run(rule, s.Location, rule.Format(s.BaseName))
		}
	}
}

// warnUnused tells of build arguments that no ARG declares: most often a typing error.
func (p *planner) warnUnused() {
	declared := map[string]bool{}
	for i := range p.file.MetaArgs {
		for _, a := range p.file.MetaArgs[i].Args {
			declared[a.Key] = true
		}
	}
	for _, s := range p.stages {
		for _, c := range s.commands {
			if c, ok := c.Command.(*instructions.ArgCommand); ok {
				for _, a := range c.Args {
					declared[a.Key] = true
				}
			}
		}
	}
	var unused []string
	for _, k := range slices.Sorted(maps.Keys(p.args)) {
		if _, automatic := p.globals.Get(k); !declared[k] && !automatic && !predefined(k) {
			unused = append(unused, k)
		}
	}
	if len(unused) > 0 {
		p.warned = append(p.warned, Warning{Text: fmt.Sprintf("[Warning] One or more build-args %v were not consumed", unused)})
	}
}

// predefined tells of build arguments that mean something without an ARG.
func predefined(key string) bool {
	switch strings.ToUpper(key) {
	case "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY", "SOURCE_DATE_EPOCH":
		return true
	}
	return strings.HasPrefix(key, "BUILDKIT_")
}

// violations is the error of a file whose "# check=error=true" makes warnings one.
func (p *planner) violations() error {
	rules := map[string]bool{}
	var first Warning
	for _, w := range p.warned {
		if w.Rule != "" {
			rules[w.Rule] = true
			if first.Rule == "" {
				first = w
			}
		}
	}
	if len(rules) == 0 {
		return nil
	}
	return fmt.Errorf("%s: lint violation found for rules: %s", first.Pos, strings.Join(slices.Sorted(maps.Keys(rules)), ", "))
}
