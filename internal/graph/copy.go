package graph

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/opencontainers/go-digest"

	"nacre/internal/dockerfile"
)

func (p *planner) add(s *stage, cmd command, c *instructions.AddCommand) error {
	op := &Copy{Add: true, Chown: c.Chown, Chmod: c.Chmod, Link: c.Link, Exclude: c.ExcludePatterns, Unpack: c.Unpack}
	checksums, gits := c.Checksum != "", c.KeepGitDir != nil
	for i, src := range c.SourcePaths {
		fetch, err := addSource(src, c)
		if err != nil {
			return err
		}
		if fetch == nil {
			continue
		}
		if op.Remote == nil {
			op.Remote = make([]*Step, len(c.SourcePaths))
		}
		op.Remote[i] = p.fetch(s, p.file.Pos(cmd.Location()), fetch)
		checksums, gits = false, gits && fetch.Git == nil
	}
	switch {
	case c.Checksum != "" && len(c.SourcePaths) != 1:
		return errors.New("checksum can't be specified for multiple sources")
	case checksums:
		return errors.New("checksum requires HTTP(S) or Git sources")
	case gits:
		return errors.New("--keep-git-dir requires a Git source")
	}
	return p.addCopy(s, cmd, c.SourcesAndDest, c.String(), op)
}

// addSource is what a source of ADD fetches; nil for a path.
func addSource(src string, c *instructions.AddCommand) (*Fetch, error) {
	switch {
	case IsHTTP(src):
		h, err := ParseHTTP(src)
		if err == nil && c.Checksum != "" {
			if h.Checksum, err = digest.Parse(c.Checksum); err != nil {
				err = fmt.Errorf("--checksum=%s: %w", c.Checksum, err)
			}
		}
		return &Fetch{HTTP: h}, err
	case !IsGit(src):
		return nil, nil
	}
	g, err := ParseGit(src)
	if err != nil {
		return nil, err
	}
	if _, query, _ := strings.Cut(src, "?"); c.KeepGitDir != nil && strings.Contains(query, "keep-git-dir") && *c.KeepGitDir != g.KeepDir {
		return nil, errors.New("inconsistent keep-git-dir configuration")
	}
	g.KeepDir = g.KeepDir || c.KeepGitDir != nil && *c.KeepGitDir
	if c.Checksum != "" {
		if err := agree("checksum", &g.Checksum, c.Checksum); err != nil {
			return nil, err
		}
	}
	return &Fetch{Git: g}, g.check()
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
	for i, src := range params.SourcePaths {
		if len(op.Remote) > 0 && op.Remote[i] != nil {
			op.Sources = append(op.Sources, op.Remote[i].Op.(*Fetch).name())
			continue
		}
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
