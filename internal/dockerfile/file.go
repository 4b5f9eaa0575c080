// Package dockerfile turns the text of a Dockerfile into stages of instructions
// with positions, and of a .dockerignore into a matcher. It checks syntax only:
// what stages and variables mean is graph's business.
//
// The grammar is that of BuildKit, whose parser this package is built on.
package dockerfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// maxSize is the largest Dockerfile accepted. They are written by hand; the
// largest generated ones seen in the wild are some 100 KB.
const maxSize = 4 << 20

// maxLine is the longest line that BuildKit's parser takes. It would drop the rest
// of the file before it says so.
const maxLine = bufio.MaxScanTokenSize - 1

// Stage is a FROM and the instructions up to the next one.
type Stage = instructions.Stage

// File is a Dockerfile that parsed. It does not change once made.
type File struct {
	Name   string // as shown in positions: "Dockerfile"
	Stages []Stage
	// MetaArgs are the ARG instructions before the first FROM.
	MetaArgs []instructions.ArgCommand
	Escape   rune   // '\\', or '`' where "# escape=`" says so
	Syntax   string // of "# syntax=", empty where there is none
	// Check is what "# check=" says: rules to skip, whether warnings are errors.
	Check  linter.Config
	Source []byte
	// Warnings are those of syntax alone. Checks of "# check=skip" are left out.
	Warnings []Warning

	lines []string
}

// Warning is advice about a place in a Dockerfile.
type Warning struct {
	Rule string // "StageNameCasing", as in docker's build checks
	Pos  string // "Dockerfile:7"
	Text string
	URL  string // where the rule is explained, or empty
}

// Parse reads a Dockerfile. Name is what positions show, usually the base name
// of the file. Every error is an *Error.
func Parse(name string, data []byte) (f *File, err error) {
	f = &File{Name: name, Source: data}
	if len(data) > maxSize {
		return nil, f.errorAt(span{}, fmt.Sprintf("the file has %d bytes; at most %d are read", len(data), maxSize))
	}
	f.lines = strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if err := f.checkText(); err != nil {
		return nil, err
	}
	if err := f.directives(); err != nil {
		return nil, err
	}
	ast, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return nil, f.locate(err)
	}
	f.Escape = ast.EscapeToken
	lint := f.Linter(func(w Warning) { f.Warnings = append(f.Warnings, w) })
	for _, w := range ast.Warnings {
		if w.URL == linter.RuleNoEmptyContinuation.URL && w.Location != nil {
			lint.Run(&linter.RuleNoEmptyContinuation, []parser.Range{*w.Location}, linter.RuleNoEmptyContinuation.Format())
		}
	}
	f.Stages, f.MetaArgs, err = instructions.Parse(ast.AST, lint)
	if err != nil {
		return nil, f.locate(err)
	}
	if len(f.Stages) == 0 {
		e := f.errorAt(span{}, "there is no stage to build")
		e.Hint = "a stage begins with FROM"
		return nil, e
	}
	return f, nil
}

// checkText refuses what no editor would call a text file, before it is reported
// as an unknown instruction made of junk.
func (f *File) checkText() error {
	switch {
	case len(bytes.TrimSpace(f.Source)) == 0:
		return f.errorAt(span{}, "the file is empty")
	case bytes.HasPrefix(f.Source, []byte{0xff, 0xfe}), bytes.HasPrefix(f.Source, []byte{0xfe, 0xff}):
		e := f.errorAt(span{}, "the file is UTF-16")
		e.Hint = "save it as UTF-8"
		return e
	}
	for i, line := range f.lines {
		if len(line) > maxLine {
			return f.errorAt(span{first: i + 1, last: i + 1}, fmt.Sprintf("the line has %d bytes; at most %d are read", len(line), maxLine))
		}
	}
	return nil
}

// directives reads "# syntax=" and "# check=". "# escape=" is the parser's.
func (f *File) directives() error {
	if name, _, at, ok := parser.ParseDirective("syntax", f.Source); ok {
		f.Syntax = name
		if !builtIn(name) {
			e := f.errorAt(spanOf(at).word(name), fmt.Sprintf("frontend %s is not supported", name))
			e.Hint = "the built-in Dockerfile syntax stands in for docker/dockerfile of any version; remove the line to use it"
			return e
		}
	}
	if _, options, at, ok := parser.ParseDirective("check", f.Source); ok {
		c, err := linter.ParseLintOptions(options)
		if err != nil {
			return f.errorAt(spanOf(at).word(options), err.Error())
		}
		f.Check = *c
	}
	return nil
}

// builtIn tells whether a frontend image is docker's Dockerfile frontend, of
// whatever version and from whatever registry it is mirrored to:
// docker/dockerfile, docker.io/docker/dockerfile-upstream:1-labs.
func builtIn(name string) bool {
	name, _, _ = strings.Cut(name, "@")
	dir, base := path.Split(name)
	base, _, _ = strings.Cut(base, ":")
	dir = "/" + dir
	return (base == "dockerfile" || base == "dockerfile-upstream") && strings.HasSuffix(dir, "/docker/")
}

// Linter returns BuildKit's rule runner, set up as the file's "# check=" says.
// Warn gets what it finds.
func (f *File) Linter(warn func(Warning)) *linter.Linter {
	c := f.Check
	c.Warn = func(rule, _, url, text string, at []parser.Range) {
		warn(Warning{Rule: rule, Pos: f.Pos(at), Text: text, URL: url})
	}
	return linter.New(&c)
}

// Pos is where something begins, as shown to people: "Dockerfile:7".
func (f *File) Pos(at []parser.Range) string { return f.pos(spanOf(at).first) }

func (f *File) pos(line int) string {
	if line <= 0 {
		return f.Name
	}
	return fmt.Sprintf("%s:%d", f.Name, line)
}

// Trigger parses the instruction of an ONBUILD. Its location is set to at, the
// FROM that triggers it. Errors are not yet located; see ErrorAt.
func (f *File) Trigger(text string, at []parser.Range) (instructions.Command, error) {
	if len(text) > maxSize {
		return nil, fmt.Errorf("the ONBUILD trigger has %d bytes; at most %d are read", len(text), maxSize)
	}
	ast, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, unlocated(err)
	}
	if len(ast.AST.Children) != 1 {
		return nil, errors.New("an ONBUILD trigger is a single instruction")
	}
	node := ast.AST.Children[0]
	switch name := strings.ToUpper(node.Value); name {
	case "FROM", "MAINTAINER", "ONBUILD":
		return nil, fmt.Errorf("%s isn't allowed as an ONBUILD trigger", name)
	}
	s := spanOf(at)
	node.StartLine, node.EndLine = s.first, s.last
	c, err := instructions.ParseCommand(node)
	if err != nil {
		return nil, unlocated(err)
	}
	return c, nil
}

// unlocated drops the positions of err: those are lines of a trigger's text.
func unlocated(err error) error {
	if l, ok := errors.AsType[*parser.LocationError](err); ok {
		return l.Unwrap()
	}
	return err
}
