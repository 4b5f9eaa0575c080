package explain

import (
	"context"
	"fmt"
	"testing"

	"nacre/internal/cache"
	"nacre/internal/cache/note"
)

// past is records and notes of earlier builds, the latest first.
type past struct {
	records []cache.Record
	notes   map[cache.Key][]byte
}

func (p *past) Earlier(_ context.Context, prefix string, n int) ([]cache.Record, error) {
	var list []cache.Record
	for _, r := range p.records {
		if len(r.Slot) >= len(prefix) && r.Slot[:len(prefix)] == prefix && len(list) < n {
			list = append(list, r)
		}
	}
	return list, nil
}

func (p *past) Note(_ context.Context, key cache.Key) ([]byte, bool, error) {
	data, ok := p.notes[key]
	return data, ok, nil
}

// put keeps a step as one that an earlier build had.
func (p *past) put(s *Step) {
	p.records = append([]cache.Record{s.Record}, p.records...)
	p.notes[s.Record.Key] = s.Note().Encode()
}

var base = &Input{Input: note.Input{Step: "FROM debian", Base: "debian", ID: "sha256:1"}, Key: fmt.Sprintf("%064x", 1)}

// run is a RUN on top of in, which came out as outcome.
func run(n int, command string, in *Input, outcome string) *Step {
	h := cache.NewHash("definition/2", Slot("place", "stage", n))
	h.Add("op", "run")
	h.Add("arg", "/bin/sh")
	h.Add("arg", "-c")
	h.Add("arg", command)
	h.Add("parent", in.Key)
	if outcome != "" {
		h.Add("outcome", outcome)
	}
	return &Step{Name: "RUN " + command, Pos: fmt.Sprint("Dockerfile:", n), Record: h.Sum(), Inputs: []*Input{in}}
}

// copied is a COPY of files.
func copied(n int, in *Input, tree note.Tree) *Step {
	h := cache.NewHash("definition/2", Slot("place", "stage", n))
	h.Add("op", "copy")
	h.Add("from", "context:")
	h.Add("source", "src")
	h.Add("parent", in.Key)
	h.Add("context", fmt.Sprint("sha256:", tree))
	return &Step{Name: "COPY src /", Pos: fmt.Sprint("Dockerfile:", n), Record: h.Sum(), Inputs: []*Input{in},
		Contexts: []Context{{Tree: func() note.Tree { return tree }}}}
}

// after is what s leaves, as the input of another; cause is why it missed.
func after(s *Step, cause *Cause) *Input {
	return &Input{Input: note.Input{Step: s.Name}, Key: s.Record.Key.String(), Of: s, Cause: cause}
}

func TestMiss(t *testing.T) {
	tree := func(sum byte) note.Tree {
		return note.Tree{Total: 1, Files: []note.File{{Name: "src/a", Mode: 0o100644, Sum: note.Sum{sum}}}}
	}
	newer := &Input{Input: note.Input{Step: "FROM debian", Base: "debian", ID: "sha256:2"}, Key: fmt.Sprintf("%064x", 2)}
	other := &Input{Input: note.Input{Step: "FROM alpine", Base: "alpine", ID: "sha256:3"}, Key: fmt.Sprintf("%064x", 3)}
	for _, c := range []struct {
		title string
		past  []*Step // the latest last
		lost  bool    // their notes
		now   *Step
		steps []*Step // others of this build
		want  string
	}{
		{title: "nothing before", now: run(1, "a", base, ""), want: "no earlier record"},
		{title: "new here", past: []*Step{run(1, "b", base, "")}, steps: []*Step{run(2, "b", base, "")}, now: run(1, "a", base, ""), want: "no earlier record of this instruction"},
		{title: "written differently", past: []*Step{run(1, "b", base, "")}, now: run(1, "a", base, ""), want: "command changed: b → a"},
		{title: "layer gone", past: []*Step{run(1, "a", base, "")}, now: run(1, "a", base, ""), want: "its record is there, but not its layer"},
		{title: "base", past: []*Step{run(1, "a", base, "")}, now: run(1, "a", newer, ""), want: "base image debian changed: sha256:1 → sha256:2"},
		{title: "another base", past: []*Step{run(1, "a", base, "")}, now: run(1, "a", other, ""), want: "base image changed: debian → alpine"},
		{title: "base, no notes", past: []*Step{run(1, "a", base, "")}, lost: true, now: run(1, "a", other, ""), want: "FROM alpine is not what it was"},
		{title: "file", past: []*Step{copied(1, base, tree(1))}, now: copied(1, base, tree(2)), want: "src/a changed: sha256:010000000000 → sha256:020000000000"},
		{title: "file, no notes", past: []*Step{copied(1, base, tree(1))}, lost: true, now: copied(1, base, tree(2)),
			want: "files of the build context changed; the earlier record does not say which"},
		{title: "too many files", past: []*Step{copied(1, base, tree(1))}, now: copied(1, base, note.Tree{Total: 300_000}),
			want: "files of the build context changed; there are too many to say which: 300000, and 1 before"},
		{title: "nearest files", past: []*Step{copied(1, base, tree(1)), copied(1, base, note.Tree{Total: 2, Files: []note.File{{Name: "x"}, {Name: "y"}}})},
			now: copied(1, base, tree(2)), want: "src/a changed: sha256:010000000000 → sha256:020000000000"},
		{title: "came out differently", past: []*Step{run(2, "b", after(run(1, "a", base, ""), nil), "sha256:x")},
			now: run(2, "b", after(run(1, "a", base, ""), nil), "sha256:y"), want: "RUN a came out differently when it was executed again"},
		{title: "executed again", past: []*Step{run(2, "b", after(run(1, "a", base, ""), nil), "sha256:x")},
			now:  run(2, "b", after(run(1, "a", base, ""), &Cause{Step: "RUN a", Pos: "Dockerfile:1", Text: "--no-cache-filter s"}), "sha256:y"),
			want: "after Dockerfile:1 RUN a: --no-cache-filter s"},
		// The step above hits what another build left, and is not the one of the nearest record.
		{title: "above another hit", past: []*Step{copied(1, base, tree(1)), run(2, "b", after(copied(1, base, tree(1)), nil), "sha256:x"), copied(1, base, tree(2))},
			now: run(2, "b", after(copied(1, base, tree(2)), nil), "sha256:y"), want: "after Dockerfile:1 COPY src /: src/a changed: sha256:010000000000 → sha256:020000000000"},
		{title: "taken out above", past: []*Step{run(1, "a", base, ""), run(2, "b", after(run(1, "a", base, ""), nil), "sha256:x")},
			now: run(1, "b", base, ""), want: "it comes after FROM debian now, not after RUN a"},
	} {
		p := &past{notes: map[cache.Key][]byte{}}
		for _, s := range c.past {
			p.put(s)
		}
		if c.lost {
			p.notes = nil
		}
		h := &History{Source: p, Place: "place"}
		for _, s := range append(c.steps, c.now) {
			h.Steps = append(h.Steps, identity(take(s.Record, nil).own))
		}
		got, err := h.Miss(t.Context(), c.now)
		if err != nil || got.Line() != c.want {
			t.Errorf("%s: %q, %v; want %q", c.title, got.Line(), err, c.want)
		}
	}
}

// TestPruned: a key that is known to have been there, and is not.
func TestPruned(t *testing.T) {
	s := run(1, "a", base, "")
	h := &History{Source: &past{notes: map[cache.Key][]byte{s.Record.Key: nil}}, Place: "place"}
	if got, err := h.Miss(t.Context(), s); err != nil || got.Line() != "its record was pruned" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestEqual(t *testing.T) {
	for want, c := range map[string]*Cause{
		"": nil,
		"source changed: a → b; what it writes is the same":                          {Step: "COPY b /", Text: "source changed: a → b"},
		"what it uses of RUN x is the same, though there command changed: a → b":     {Step: "RUN x", Pos: "D:1", Via: "RUN x", Text: "command changed: a → b"},
		"what it uses of RUN y is the same, after D:1 RUN x: command changed: a → b": {Step: "RUN x", Pos: "D:1", Via: "RUN y", Text: "command changed: a → b"},
	} {
		if got := c.Equal(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
