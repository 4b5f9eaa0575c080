// Package explain says why a step of a build was not found in the cache: the first thing
// that differs from the nearest earlier record, and where the difference began.
//
// It compares values: records with their named fields, and the notes beside them. It reads no file and
// decides nothing; whoever builds does the same with and without it.
package explain

import (
	"context"
	"fmt"
	"strings"

	"nacre/internal/cache"
	"nacre/internal/cache/note"
)

// Step is a step of this build.
type Step struct {
	Name     string // the instruction as shown: "COPY src /src"
	Pos      string // "Dockerfile:7"
	Place    string // "[build 2/5]"
	Record   cache.Record
	Scope    []string  // variables that are build arguments
	Inputs   []*Input  // of the record's fields "parent" and "from", in their order
	Contexts []Context // of its fields "context"
}

// Context is files of a build context that a step uses.
type Context struct {
	Label string // where there may be several: "context NAME", "mount /src"; or empty
	Tree  func() note.Tree
}

// Input is a root that a step uses.
type Input struct {
	note.Input
	Key string // as in the record
	// Of makes it: nil for a base image and for what was fetched.
	Of *Step
	// Cause is why that step was not found; nil where it was.
	Cause *Cause
}

// Cause is why a step was not found.
type Cause struct {
	Step, Pos string // where it began
	Text      string // what differed there: "src/main.go changed: sha256:… → sha256:…"
	Via       string // the input through which it came; empty: the step itself differs
}

// Note is what is to be kept beside the step's record.
func (s *Step) Note() note.Note {
	n := note.Note{Step: s.Name, Pos: s.Pos, Place: s.Place}
	for _, in := range s.Inputs {
		n.Inputs = append(n.Inputs, in.Input)
	}
	for _, c := range s.Contexts {
		n.Trees = append(n.Trees, c.Tree())
	}
	return n
}

// Line is the cause in one line, as told of a step that missed; empty for nil.
func (c *Cause) Line() string {
	if c == nil {
		return ""
	}
	if c.Via == "" {
		return c.Text
	}
	return "after " + c.origin()
}

// Equal is the cause in one line, as told of a step that was found by its content all the same.
func (c *Cause) Equal() string {
	if c == nil {
		return ""
	}
	switch c.Via {
	case "":
		return c.Text + "; what it writes is the same"
	case c.Step:
		return fmt.Sprintf("what it uses of %s is the same, though there %s", clip(c.Via), c.Text)
	}
	return fmt.Sprintf("what it uses of %s is the same, after %s", clip(c.Via), c.origin())
}

func (c *Cause) origin() string {
	where := clip(c.Step)
	if c.Pos != "" {
		where = c.Pos + " " + where
	}
	return where + ": " + c.Text
}

// Miss says why s, whose record was looked for, was not there.
func (h *History) Miss(ctx context.Context, s *Step) (*Cause, error) {
	c := &Cause{Step: s.Name, Pos: s.Pos}
	data, ok, err := h.Source.Note(ctx, s.Record.Key)
	if err != nil {
		return nil, err
	}
	if ok && data == nil {
		c.Text = "its record was pruned"
		return c, nil
	}
	before, ok, err := h.nearest(ctx, s)
	if err != nil {
		return nil, err
	}
	if !ok {
		c.Text = "no earlier record"
		if len(h.hereList) > 0 {
			c.Text = "no earlier record of this instruction"
		}
		return c, nil
	}
	if before.rec.Key == s.Record.Key {
		c.Text = "its record is there, but not its layer"
		return c, nil
	}
	return h.diff(ctx, s, before.rec), nil
}

// diff is the first thing in which s differs from a record of the same instruction, or one
// that stood in its place: of the step itself, then of files, then of the roots it uses.
func (h *History) diff(ctx context.Context, s *Step, before cache.Record) *Cause {
	c := &Cause{Step: s.Name, Pos: s.Pos}
	now, was := take(s.Record, s.Scope), take(before, s.Scope)
	if now.kind != was.kind {
		c.Text = "another version of nacre keeps its records differently"
		return c
	}
	if c.Text = why(now.own, was.own); c.Text != "" {
		return c
	}
	left := h.note(ctx, before.Key)
	for i, sum := range now.contexts {
		if i < len(was.contexts) && sum != was.contexts[i] {
			c.Text = s.files(i, left)
			return c
		}
	}
	for i, in := range now.inputs {
		if i >= len(was.inputs) || i >= len(s.Inputs) || in == was.inputs[i] {
			continue
		}
		if in.key == was.inputs[i].key {
			return s.Inputs[i].again(s)
		}
		var then note.Input
		if i < len(left.Inputs) {
			then = left.Inputs[i]
		}
		return h.input(ctx, s, s.Inputs[i], then, was.inputs[i].key)
	}
	c.Text = "it uses another number of inputs"
	if len(now.inputs) == len(was.inputs) && len(now.contexts) == len(was.contexts) {
		c.Text = "its record differs"
	}
	return c
}

// files says which file of the ith context differs.
func (s *Step) files(i int, left note.Note) string {
	label := ""
	var now note.Tree
	if i < len(s.Contexts) {
		now = s.Contexts[i].Tree()
		if label = s.Contexts[i].Label; label != "" {
			label += ": "
		}
	}
	if i >= len(left.Trees) {
		return label + "files of the build context changed; the earlier record does not say which"
	}
	was := left.Trees[i]
	if !was.Complete() || !now.Complete() {
		return fmt.Sprintf("%sfiles of the build context changed; there are too many to say which: %d, and %d before", label, now.Total, was.Total)
	}
	first, n := note.Compare(was, now)
	text := label + change(first)
	if n > 1 {
		text += fmt.Sprintf(" (and %d more)", n-1)
	}
	return text
}

func change(c note.Change) string {
	name := show(c.Name)
	switch c.Kind {
	case note.Added:
		return name + " is new"
	case note.Removed:
		return name + " is gone"
	case note.Mode:
		return fmt.Sprintf("%s: mode %04o → %04o", name, c.Old.Mode&0o7777, c.New.Mode&0o7777)
	case note.Type:
		return fmt.Sprintf("%s was a %s and is a %s", name, fileType(c.Old.Mode), fileType(c.New.Mode))
	case note.Attr:
		return name + ": extended attributes changed, or the time"
	case note.Content:
		if fileType(c.New.Mode) != "file" {
			return fmt.Sprintf("%s, a %s, leads elsewhere", name, fileType(c.New.Mode))
		}
		return fmt.Sprintf("%s changed: sha256:%.6x → sha256:%.6x", name, c.Old.Sum[:], c.New.Sum[:])
	}
	return "files are given in another order"
}

func fileType(mode uint32) string {
	switch mode & 0o170000 {
	case 0o040000:
		return "directory"
	case 0o120000:
		return "symlink"
	case 0o060000, 0o020000:
		return "device"
	case 0o010000:
		return "pipe"
	case 0:
		return "hard link"
	}
	return "file"
}

// input says why a root that s uses is not the one it used; then is that one, key its key.
func (h *History) input(ctx context.Context, s *Step, in *Input, then note.Input, key string) *Cause {
	c := &Cause{Step: s.Name, Pos: s.Pos}
	switch {
	case then == note.Input{} && in.Cause == nil:
		c.Text = clip(in.Step) + " is not what it was"
		return c
	case in.Of == nil && then.Base == in.Base && then.Step == in.Step && then.Base != "":
		c.Text = fmt.Sprintf("base image %s changed: %s → %s", in.Base, show(then.ID), show(in.ID))
		return c
	case in.Of == nil && in.Base != "" && then.Base != "":
		c.Text = fmt.Sprintf("base image changed: %s → %s", then.Base, in.Base)
		return c
	case in.Of == nil && in.Base == "" && then.Step == in.Step:
		c.Text = fmt.Sprintf("%s brought something else: %s → %s", clip(in.Step), show(then.ID), show(in.ID))
		return c
	}
	if in.Cause != nil {
		return in.via()
	}
	if before, ok := h.keyed(key); ok && in.Of != nil {
		if identity(take(before, nil).own) == identity(take(in.Of.Record, nil).own) {
			c := h.diff(ctx, in.Of, before)
			c.Via = in.Step
			return c
		}
	}
	if then.Step == in.Step {
		c.Text = clip(in.Step) + " is not what it was"
		return c
	}
	c.Text = fmt.Sprintf("it comes after %s now, not after %s", clip(in.Step), clip(then.Step))
	return c
}

// again is the cause where the input is what it was, but came out differently when it was executed again.
func (in *Input) again(s *Step) *Cause {
	if in.Cause != nil {
		return in.via()
	}
	return &Cause{Step: s.Name, Pos: s.Pos, Text: clip(in.Step) + " came out differently when it was executed again"}
}

// via is the cause of the input, as the cause of who uses it.
func (in *Input) via() *Cause {
	c := *in.Cause
	c.Via = in.Step
	return &c
}

// maxName is how much is shown of an instruction within a line about another.
const maxName = 48

// clip shortens an instruction to one line.
func clip(s string) string {
	s, _, cut := strings.Cut(s, "\n")
	if r := []rune(s); len(r) > maxName {
		s, cut = string(r[:maxName]), true
	}
	if cut {
		s += "…"
	}
	return s
}
