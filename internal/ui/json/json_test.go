package json

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"nacre/internal/event"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func at(ms int) time.Time {
	return time.Date(2026, 11, 21, 10, 0, 0, ms*1e6, time.FixedZone("", 3600))
}

func TestGolden(t *testing.T) {
	var b bytes.Buffer
	p := New(&b)
	p.now = func() time.Time { return at(999) }
	for _, e := range []event.Event{
		event.Plan{Steps: []event.Step{{ID: 1, Name: "[1/2] FROM debian"}, {ID: 2, Name: "[2/2] RUN make", Inputs: []int{1}}}},
		event.Started{Step: event.Step{ID: 1, Name: "[1/2] FROM debian"}, Time: at(0)},
		event.Progress{ID: 1, Item: "sha256:aaa", Current: 0, Total: 1000, Unit: "B", Time: at(10)},
		event.Progress{ID: 1, Item: "sha256:aaa", Current: 1000, Total: 1000, Unit: "B", Time: at(20)},
		event.Progress{ID: 1, Current: 5, Time: at(21)},
		event.Done{ID: 1, Cached: true, Time: at(30)},
		event.Started{Step: event.Step{ID: 2, Name: "[2/2] RUN make", Inputs: []int{1}}, Time: at(30)},
		event.Log{ID: 2, Stream: 2, Data: []byte("bytes \xff\x00 <&>\n"), Time: at(40)},
		event.Warning{Pos: "Dockerfile:3", Text: "MAINTAINER is deprecated", Hint: "use a label"},
		event.Done{ID: 2, Time: at(50), Size: 42, Why: "file x changed", Note: "n", Err: fmt.Errorf("exit code: %d", 2)},
		event.Done{ID: 3, Err: context.Canceled},
		event.Warning{Text: "bare"},
	} {
		p.Sink()(e)
	}
	if err := p.Close(nil); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("testdata/build.jsonl", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/build.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// What BuildKit's clients read: its types, copied field by field.
type solveStatus struct {
	Vertexes []*struct {
		Digest    string     `json:"digest"`
		Inputs    []string   `json:"inputs"`
		Name      string     `json:"name"`
		Started   *time.Time `json:"started"`
		Completed *time.Time `json:"completed"`
		Cached    bool       `json:"cached"`
		Error     string     `json:"error"`
		Size      int64      `json:"size"`
		Note      string     `json:"note"`
		Why       string     `json:"why"`
	} `json:"vertexes"`
	Statuses []*struct {
		ID        string     `json:"id"`
		Vertex    string     `json:"vertex"`
		Total     int64      `json:"total"`
		Current   int64      `json:"current"`
		Timestamp time.Time  `json:"timestamp"`
		Started   *time.Time `json:"started"`
		Completed *time.Time `json:"completed"`
	} `json:"statuses"`
	Logs []*struct {
		Vertex    string    `json:"vertex"`
		Stream    int       `json:"stream"`
		Data      []byte    `json:"data"`
		Timestamp time.Time `json:"timestamp"`
	} `json:"logs"`
	Warnings []*struct {
		Level  int      `json:"level"`
		Short  []byte   `json:"short"`
		Detail [][]byte `json:"detail"`
	} `json:"warnings"`
}

// Events come from many goroutines; each line is one whole object, and no byte of a log is lost.
func TestConcurrent(t *testing.T) {
	var b bytes.Buffer
	p := New(&b)
	sink := p.Sink()
	var wg sync.WaitGroup
	for id := range 8 {
		wg.Go(func() {
			sink(event.Started{Step: event.Step{ID: id, Name: fmt.Sprint("step ", id)}})
			for i := range 100 {
				sink(event.Log{ID: id, Stream: 1, Data: []byte(fmt.Sprintf("%d:%d\xff\n", id, i))})
				sink(event.Progress{ID: id, Item: "x", Current: int64(i), Total: 99})
			}
			sink(event.Done{ID: id})
		})
	}
	wg.Wait()
	if err := p.Close(nil); err != nil {
		t.Fatal(err)
	}
	names, logs, done := map[string]string{}, map[string]string{}, 0
	for s := bufio.NewScanner(&b); s.Scan(); {
		d := json.NewDecoder(strings.NewReader(s.Text()))
		d.DisallowUnknownFields()
		var o solveStatus
		if err := d.Decode(&o); err != nil {
			t.Fatalf("%s: %v", s.Text(), err)
		}
		for _, v := range o.Vertexes {
			names[v.Digest] = v.Name
			if v.Completed != nil {
				done++
			}
		}
		for _, l := range o.Logs {
			logs[l.Vertex] += string(l.Data)
		}
		for _, st := range o.Statuses {
			if (st.Completed != nil) != (st.Current == st.Total) || names[st.Vertex] == "" {
				t.Errorf("status %+v", st)
			}
		}
	}
	if len(names) != 8 || done != 8 {
		t.Errorf("%d steps, %d done", len(names), done)
	}
	for digest, name := range names {
		id := strings.TrimPrefix(name, "step ")
		var want strings.Builder
		for i := range 100 {
			fmt.Fprintf(&want, "%s:%d\xff\n", id, i)
		}
		if logs[digest] != want.String() {
			t.Errorf("%s: log differs", name)
		}
	}
}

type full struct{ writes int }

func (w *full) Write([]byte) (int, error) { w.writes++; return 0, os.ErrClosed }

func TestWriteError(t *testing.T) {
	w := &full{}
	p := New(w)
	p.Sink()(event.Done{ID: 1})
	p.Sink()(event.Done{ID: 2})
	if err := p.Close(nil); !errors.Is(err, os.ErrClosed) || w.writes != 1 {
		t.Errorf("%v after %d writes", err, w.writes)
	}
}

func TestClosed(t *testing.T) {
	var b bytes.Buffer
	p := New(&b)
	p.Close(nil)
	p.Sink()(event.Done{ID: 1})
	if b.Len() > 0 {
		t.Errorf("printed after Close: %s", b.String())
	}
}
