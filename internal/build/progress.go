package build

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"nacre/internal/event"
	"nacre/internal/graph"
	"nacre/internal/registry/lazy"
)

// IDs of the steps that are not in the graph; the graph's follow.
const (
	stepDockerfile = iota + 1
	stepContext
	stepExport
	stepGraph
)

// begin announces a step and returns what announces its end; that returns the
// error it is given, so that it can be wrapped around a return.
func (b Builder) begin(s event.Step) func(event.Done, error) error {
	b.Sink(event.Started{Step: s, Time: b.Clock()})
	return func(d event.Done, err error) error {
		d.ID, d.Time, d.Err = s.ID, b.Clock(), err
		if lost, ok := errors.AsType[*lazy.LostError](err); ok { // the build goes on without
			d.Note, d.Err = fmt.Sprintf("put off: layer %s cannot be had", short(lost.DiffID)), nil
		}
		b.Sink(d)
		return err
	}
}

// rounds tells the steps of a build that began again from those of before.
const rounds = 1 << 32

func (s *solver) eventStep(st *graph.Step) event.Step {
	first := stepGraph + s.round*rounds
	e := event.Step{ID: first + st.ID, Name: st.Name, Pos: st.Pos, Stage: st.Stage}
	for _, in := range st.Inputs() {
		e.Inputs = append(e.Inputs, first+in.ID)
	}
	return e
}

// logger turns one stream of a process into log events. Whole lines are sent at once;
// what has no line end yet is held until more comes, unless it grows long.
type logger struct {
	sink   event.Sink
	clock  func() time.Time
	id     int
	stream int
	ends   string // what ends a line; empty: "\n"

	hidden [][]byte // what nobody may read, longest first

	mu   sync.Mutex
	held []byte
	tail *tail
}

// maxHeld bounds a line that does not end (a progress bar drawn with \r).
const maxHeld = 16 << 10

func (l *logger) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = append(l.held, p...)
	end := bytes.LastIndexAny(l.held, cmp.Or(l.ends, "\n")) + 1
	if end == 0 && len(l.held) > maxHeld {
		end = len(l.held)
	}
	l.send(end)
	return len(p), nil
}

func (l *logger) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.send(len(l.held))
}

func (l *logger) send(n int) {
	if n == 0 {
		return
	}
	data := bytes.Clone(l.held[:n])
	for _, h := range l.hidden {
		data = bytes.ReplaceAll(data, h, []byte("****"))
	}
	l.tail.write(data)
	l.sink(event.Log{ID: l.id, Time: l.clock(), Stream: l.stream, Data: data})
	l.held = l.held[:copy(l.held, l.held[n:])]
}

// tail keeps the end of what a process printed, for its error.
type tail struct {
	mu   sync.Mutex
	data []byte
}

const maxTail = 8 << 10

func (t *tail) write(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if extra := len(t.data) - maxTail; extra > 0 {
		t.data = append(t.data[:0], t.data[extra:]...)
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data)
}

// minHidden is the shortest part of a secret that is taken out of logs: what is shorter
// is found in any text, and guessed.
const minHidden = 4

// hide keeps the lines of a secret out of the step's log.
func (w *work) hide(secret []byte) {
	for line := range bytes.Lines(secret) {
		if line = bytes.TrimSpace(line); len(line) >= minHidden {
			w.hidden = append(w.hidden, bytes.Clone(line))
		}
	}
	slices.SortStableFunc(w.hidden, func(a, b []byte) int { return len(b) - len(a) })
}
