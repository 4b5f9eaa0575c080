package graph_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"nacre/internal/dockerfile"
	"nacre/internal/graph"
	"nacre/internal/image"
)

var update = flag.Bool("update", false, "write what comes out into the golden files")

// images is a Resolver over a map.
type images map[string]graph.Image

func (m images) resolve(_ context.Context, name string, _ image.Platform) (graph.Image, error) {
	img, ok := m[name]
	if !ok {
		return img, fmt.Errorf("no such image; there are %v", slices.Sorted(maps.Keys(m)))
	}
	if img.Config.OS == "" {
		img.Config.OS, img.Config.Architecture = "linux", "amd64"
	}
	return img, nil
}

// amd64 is what plans of tests are for, on whatever machine.
var amd64 = image.Platform{OS: "linux", Architecture: "amd64"}

func plan(t testing.TB, text string, o graph.Options, m images) (*graph.Graph, error) {
	t.Helper()
	f, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		return nil, err
	}
	if o.BuildPlatform.OS == "" {
		o.BuildPlatform = amd64
	}
	return graph.Plan(t.Context(), f, o, m.resolve)
}

// TestPlan prints the plan of testdata/plan/*.txtar and compares it with what is there.
func TestPlan(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string][]byte{}
			for _, f := range a.Files {
				parts[f.Name] = f.Data
			}
			o := graph.Options{BuildPlatform: amd64}
			m := images{}
			unmarshal(t, parts["options.json"], &o)
			unmarshal(t, parts["images.json"], &m)
			f, err := dockerfile.Parse("Dockerfile", parts["Dockerfile"])
			if err != nil {
				t.Fatal(err)
			}
			got := printed(t, f, o, m)
			if again := printed(t, f, o, m); again != got {
				t.Errorf("a second plan of the same file differs:\n%s", cmp.Diff(got, again))
			}
			if *update {
				write(t, name, a, got)
				return
			}
			if diff := cmp.Diff(string(parts["plan.json"]), got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func printed(t *testing.T, f *dockerfile.File, o graph.Options, m images) string {
	t.Helper()
	g, err := graph.Plan(t.Context(), f, o, m.resolve)
	if err != nil {
		t.Fatal(err)
	}
	checkGraph(t, g)
	var b bytes.Buffer
	if err := g.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// checkGraph checks what holds for every graph.
func checkGraph(t testing.TB, g *graph.Graph) {
	t.Helper()
	for i, s := range g.Steps {
		if s.ID != i {
			t.Errorf("step %d has ID %d", i, s.ID)
		}
		for _, in := range s.Inputs() {
			if in.ID >= s.ID || g.Steps[in.ID] != in {
				t.Errorf("step %d comes before its input %d", s.ID, in.ID)
			}
		}
		if len(s.Fields()) == 0 {
			t.Errorf("step %d has no fields", i)
		}
	}
	for _, h := range g.Target.History {
		if h.Step != nil && g.Steps[h.Step.ID] != h.Step {
			t.Errorf("history %q has a step that is not of the graph", h.CreatedBy)
		}
	}
}

func unmarshal(t *testing.T, data []byte, v any) {
	t.Helper()
	if data == nil {
		return
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name string, a *txtar.Archive, got string) {
	t.Helper()
	a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return f.Name == "plan.json" })
	a.Files = append(a.Files, txtar.File{Name: "plan.json", Data: []byte(got)})
	if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDOT(t *testing.T) {
	g, err := plan(t, "FROM a AS x\nRUN \"one\"\nFROM scratch\nCOPY --from=x /1 /2\n", graph.Options{}, images{"a": {}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `digraph build {
	rankdir=LR
	node [shape=box, fontname=monospace]
	subgraph cluster_0 {
		label="x"
		s0 [label="[x 1/2] FROM docker.io/library/a:latest"]
		s1 [label="[x 2/2] RUN \"one\""]
	}
	subgraph cluster_1 {
		label="1"
		s2 [label="[stage-1 1/1] COPY --from=x /1 /2"]
	}
	s0 -> s1
	s1 -> s2 [style=dashed]
	result [shape=oval, label="1"]
	s2 -> result
}
`
	var b bytes.Buffer
	if err := g.WriteDOT(&b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestResolver: only what is needed is asked for, once, and at the same time.
func TestResolver(t *testing.T) {
	const text = "FROM a AS one\nFROM b AS two\nFROM a AS three\nFROM unused AS four\nFROM scratch\nCOPY --from=one / /\nCOPY --from=two / /\nCOPY --from=three / /\nCOPY --from=c / /\n"
	var mu sync.Mutex
	var asked []string
	meet := sync.WaitGroup{}
	meet.Add(3)
	f, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	_, err = graph.Plan(t.Context(), f, graph.Options{BuildPlatform: amd64}, func(_ context.Context, name string, p image.Platform) (graph.Image, error) {
		mu.Lock()
		asked = append(asked, name+" "+image.FormatPlatform(p))
		mu.Unlock()
		meet.Done()
		meet.Wait() // never ends where one waits for the other
		return graph.Image{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(asked)
	if diff := cmp.Diff([]string{"a linux/amd64", "b linux/amd64", "c linux/amd64"}, asked); diff != "" {
		t.Error(diff)
	}
}

// TestResolverError: the cause is kept, the place is named.
func TestResolverError(t *testing.T) {
	cause := errors.New("no network")
	f, err := dockerfile.Parse("Dockerfile", []byte("FROM scratch AS builder\nFROM scratch\nCOPY --from=bulider / /\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = graph.Plan(t.Context(), f, graph.Options{}, func(context.Context, string, image.Platform) (graph.Image, error) {
		return graph.Image{}, cause
	})
	if !errors.Is(err, cause) {
		t.Fatalf("got %v", err)
	}
	e, ok := errors.AsType[*dockerfile.Error](err)
	if !ok || e.Line != 3 || e.Column != 13 || e.Hint != "did you mean builder?" {
		t.Errorf("got %+v", e)
	}
}
