package graph

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"nacre/internal/dockerfile"
)

func (p *planner) add(s *stage, cmd command, c *instructions.AddCommand) error {
	for _, src := range c.SourcePaths {
		if kind := remote(src); kind != "" {
			return unsupported("ADD of a " + kind)
		}
	}
	switch {
	case c.Checksum != "" && len(c.SourcePaths) != 1:
		return errors.New("checksum can't be specified for multiple sources")
	case c.Checksum != "":
		return errors.New("checksum requires HTTP(S) or Git sources")
	case c.KeepGitDir != nil:
		return errors.New("--keep-git-dir requires a Git source")
	}
	op := &Copy{Add: true, Chown: c.Chown, Chmod: c.Chmod, Link: c.Link, Exclude: c.ExcludePatterns, Unpack: c.Unpack}
	return p.addCopy(s, cmd, c.SourcesAndDest, c.String(), op)
}

func (p *planner) copy(s *stage, cmd command, c *instructions.CopyCommand) error {
	for _, src := range c.SourcePaths {
		if kind := remote(src); kind != "" {
			return fmt.Errorf("source can't be a %s for COPY", kind)
		}
	}
	op := &Copy{Context: cmd.context, Chown: c.Chown, Chmod: c.Chmod, Link: c.Link, Parents: c.Parents, Exclude: c.ExcludePatterns}
	if from := cmd.from; from != nil {
		if from.index >= 0 && !from.dispatched {
			return fmt.Errorf("cannot copy from stage %q, it needs to be defined before current stage %q", c.From, s.id())
		}
		op.From = p.rootOf(from)
	}
	return p.addCopy(s, cmd, c.SourcesAndDest, c.String(), op)
}

// addCopy completes op and makes a step of it.
func (p *planner) addCopy(s *stage, cmd command, params instructions.SourcesAndDest, text string, op *Copy) error {
	if op.Chown != "" {
		if err := checkOwner(op.Chown, !op.Link); err != nil {
			return err
		}
	}
	if op.Chmod != "" {
		if err := checkMode(op.Chmod); err != nil {
			return err
		}
	}
	if _, err := dockerfile.NewMatcher(op.Exclude); err != nil {
		return fmt.Errorf("--exclude: %w", err)
	}
	op.Dest = destination(s.config().WorkingDir, params.DestPath)
	op.Written = params.SourcePaths
	for _, src := range params.SourcePaths {
		if strings.ContainsRune(src, 0) {
			return fmt.Errorf("%q cannot be a path", src)
		}
		op.Sources = append(op.Sources, source(src, op.Parents))
	}
	for _, f := range params.SourceContents {
		if err := checkFileName(f.Path); err != nil {
			return err
		}
		op.Inline = append(op.Inline, InlineFile{Path: f.Path, Data: []byte(f.Data), Mode: 0o644})
	}
	step := p.step(s, cmd, shown(p.lex, text, s.env), op)
	s.record(copyText(op, params), step)
	return nil
}

// copyText is the instruction as history has it: with the flags that matter to
// the result.
func copyText(op *Copy, params instructions.SourcesAndDest) string {
	words := []string{"COPY"}
	if op.Add {
		words[0] = "ADD"
	}
	if op.Parents {
		words = append(words, "--parents")
	}
	if op.Chown != "" {
		words = append(words, "--chown="+op.Chown)
	}
	if op.Chmod != "" {
		words = append(words, "--chmod="+op.Chmod)
	}
	words = append(words, params.SourcePaths...)
	for _, f := range params.SourceContents {
		words = append(words, "<<"+f.Path)
	}
	return strings.Join(append(words, params.DestPath, "# buildkit"), " ")
}

// source is a path in the root it is copied from: nothing is above that root, ".."
// stays in it. With --parents what is before "/./" is not kept in the target: that mark stays.
func source(src string, parents bool) string {
	if before, after, ok := strings.Cut(src, "/./"); ok && parents {
		return clean(before) + "/./" + clean(after)
	}
	return clean(src)
}

func clean(p string) string {
	if p = path.Clean("/" + p)[1:]; p == "" {
		return "."
	}
	return p
}

// destination is an absolute path, with a slash at its end where it must be a directory.
func destination(dir, dest string) string {
	abs := path.Clean(absolute(dir, dest))
	isDir := dest == "" || dest == "." || strings.HasSuffix(dest, "/") || strings.HasSuffix(dest, "/.")
	if isDir && abs != "/" {
		abs += "/"
	}
	return abs
}

// remote tells what kind of remote source src is; empty for a path.
func remote(src string) string {
	scheme, rest, ok := strings.Cut(src, "://")
	if ok {
		switch strings.ToLower(scheme) {
		case "http", "https":
			rest, _, _ = strings.Cut(rest, "#")
			rest, _, _ = strings.Cut(rest, "?")
			if strings.HasSuffix(rest, ".git") {
				return "git ref"
			}
			return "URL"
		case "git", "ssh":
			return "git ref"
		}
		return ""
	}
	// user@host:path, as ssh writes it
	user, rest, ok := strings.Cut(src, "@")
	host, _, colon := strings.Cut(rest, ":")
	if ok && colon && user != "" && host != "" && strings.Trim(user, nameBytes+"-") == "" && strings.Trim(host, nameBytes+"-.") == "" {
		return "git ref"
	}
	return ""
}
