// Package json writes the events of a build for programs: one JSON object per line, in the
// shape of BuildKit's SolveStatus, as `--progress rawjson` has it there.
//
//	{"vertexes":[{"digest":"sha256:…","inputs":["sha256:…"],"name":"[2/5] RUN make","started":"…","completed":"…","cached":true,"error":"…"}]}
//	{"statuses":[{"id":"sha256:…","vertex":"sha256:…","total":28200000,"current":3150000,"timestamp":"…","started":"…","completed":"…"}]}
//	{"logs":[{"vertex":"sha256:…","stream":1,"data":"<base64>","timestamp":"…"}]}
//	{"warnings":[{"level":1,"short":"<base64>","detail":["<base64>"]}]}
//
// Each object has one of the four lists, with one element (but for the plan: all steps). A
// vertex is repeated with more known: planned, started, completed. Its digest
// tells it apart within one run and has no other meaning. Beyond BuildKit's
// fields a completed vertex may have "size" (bytes of file content it added), "note", "cache" (hit, equal: found by
// what its inputs came out as, or miss) and "why" (what differed from the nearest earlier record).
package json

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"nacre/internal/event"

	"github.com/opencontainers/go-digest"
)

// Printer writes events to one writer. Each object is one Write, made before
// the sink returns.
type Printer struct {
	mu    sync.Mutex
	w     io.Writer
	now   func() time.Time
	steps map[int]*vertex
	items map[itemKey]*status
	err   error
	shut  bool
}

type itemKey struct {
	step int
	name string
}

// New returns a printer; there is nothing to close but to learn of a failed write.
func New(w io.Writer) *Printer {
	return &Printer{w: w, now: time.Now, steps: map[int]*vertex{}, items: map[itemKey]*status{}}
}

// Sink returns where events go.
func (p *Printer) Sink() event.Sink { return p.handle }

// Close ends the output; later events are dropped. failed is not printed: the vertex that failed
// has said so. The error is that of the first write that failed.
func (p *Printer) Close(failed error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	return p.err
}

type vertex struct {
	Digest    digest.Digest   `json:"digest,omitempty"`
	Inputs    []digest.Digest `json:"inputs,omitempty"`
	Name      string          `json:"name,omitempty"`
	Started   *time.Time      `json:"started,omitempty"`
	Completed *time.Time      `json:"completed,omitempty"`
	Cached    bool            `json:"cached,omitempty"`
	Error     string          `json:"error,omitempty"`
	Size      int64           `json:"size,omitempty"`
	Note      string          `json:"note,omitempty"`
	Cache     event.Cache     `json:"cache,omitempty"`
	Why       string          `json:"why,omitempty"`
}

type status struct {
	ID        string        `json:"id"`
	Vertex    digest.Digest `json:"vertex,omitempty"`
	Name      string        `json:"name,omitempty"`
	Total     int64         `json:"total,omitempty"`
	Current   int64         `json:"current"`
	Timestamp time.Time     `json:"timestamp"`
	Started   *time.Time    `json:"started,omitempty"`
	Completed *time.Time    `json:"completed,omitempty"`
}

type logs struct {
	Vertex    digest.Digest `json:"vertex,omitempty"`
	Stream    int           `json:"stream,omitempty"`
	Data      []byte        `json:"data"`
	Timestamp time.Time     `json:"timestamp"`
}

type warning struct {
	Level  int      `json:"level,omitempty"`
	Short  []byte   `json:"short,omitempty"`
	Detail [][]byte `json:"detail,omitempty"`
}

// object is one line of output.
type object struct {
	Vertexes []*vertex  `json:"vertexes,omitempty"`
	Statuses []*status  `json:"statuses,omitempty"`
	Logs     []*logs    `json:"logs,omitempty"`
	Warnings []*warning `json:"warnings,omitempty"`
}

func (p *Printer) handle(e event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut || p.err != nil {
		return
	}
	switch e := e.(type) {
	case event.Plan:
		var o object
		for _, s := range e.Steps {
			o.Vertexes = append(o.Vertexes, p.describe(s))
		}
		p.write(o)
	case event.Started:
		v := p.describe(e.Step)
		v.Started = p.time(e.Time)
		p.write(object{Vertexes: []*vertex{v}})
	case event.Done:
		p.write(object{Vertexes: []*vertex{p.done(e)}})
	case event.Log:
		v := p.step(e.ID)
		p.write(object{Logs: []*logs{{Vertex: v.Digest, Stream: e.Stream, Data: e.Data, Timestamp: *p.time(e.Time)}}})
	case event.Progress:
		p.write(object{Statuses: []*status{p.progress(e)}})
	case event.Warning:
		p.write(object{Warnings: []*warning{warn(e)}})
	}
}

// step finds the vertex of a step, or makes it.
func (p *Printer) step(id int) *vertex {
	v := p.steps[id]
	if v == nil {
		v = &vertex{Digest: digest.FromString(fmt.Sprintf("nacre step %d", id))}
		p.steps[id] = v
	}
	return v
}

func (p *Printer) describe(s event.Step) *vertex {
	v := p.step(s.ID)
	v.Name, v.Inputs = s.Name, nil
	for _, id := range s.Inputs {
		v.Inputs = append(v.Inputs, p.step(id).Digest)
	}
	return v
}

func (p *Printer) done(e event.Done) *vertex {
	v := p.step(e.ID)
	v.Completed = p.time(e.Time)
	if v.Started == nil {
		v.Started = v.Completed
	}
	v.Cached, v.Size, v.Note, v.Cache, v.Why = e.Cached, e.Size, e.Note, e.Cache, e.Why
	if e.Err != nil {
		v.Error = e.Err.Error()
	}
	return v
}

func (p *Printer) progress(e event.Progress) *status {
	v := p.step(e.ID)
	key := itemKey{e.ID, e.Item}
	s := p.items[key]
	if s == nil {
		s = &status{ID: e.Item, Vertex: v.Digest, Started: p.time(e.Time)}
		if s.ID == "" {
			s.ID = v.Name
		}
		p.items[key] = s
	}
	s.Current, s.Total, s.Timestamp = e.Current, e.Total, *p.time(e.Time)
	if s.Completed == nil && s.Total > 0 && s.Current >= s.Total {
		s.Completed = p.time(e.Time)
	}
	return s
}

func warn(e event.Warning) *warning {
	w := &warning{Level: 1, Short: []byte(e.Text)}
	if e.Pos != "" {
		w.Short = []byte(e.Pos + ": " + e.Text)
	}
	if e.Hint != "" {
		w.Detail = [][]byte{[]byte(e.Hint)}
	}
	return w
}

func (p *Printer) time(t time.Time) *time.Time {
	if t.IsZero() {
		t = p.now()
	}
	t = t.UTC()
	return &t
}

func (p *Printer) write(o object) {
	b, err := json.Marshal(o)
	if err != nil { // a time beyond the year 9999: none of ours
		p.err = err
		return
	}
	_, p.err = p.w.Write(append(b, '\n'))
}
