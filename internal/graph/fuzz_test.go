package graph_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"nacre/internal/dockerfile"
	"nacre/internal/graph"
	"nacre/internal/image"
)

// FuzzPlan takes a Dockerfile and an ONBUILD trigger of its base images through
// the whole front. What parses and plans must make a sound graph, twice the same.
func FuzzPlan(f *testing.F) {
	files, _ := filepath.Glob("testdata/plan/*.txtar")
	for _, name := range files {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range a.Files {
			if part.Name == "Dockerfile" {
				f.Add(string(part.Data), "RUN x")
			}
		}
	}
	f.Add("# syntax=docker/dockerfile:1\n# escape=`\n# check=skip=all\nFROM a", "COPY --from=0 <<A $B /\nx\nA")
	f.Add("from a as b\nfrom b\nonbuild run <<x\ny\nx\nfrom 1", "ONBUILD RUN x")
	f.Fuzz(func(t *testing.T, text, trigger string) {
		file, err := dockerfile.Parse("Dockerfile", []byte(text))
		if err != nil {
			checkError(t, err)
			return
		}
		resolve := func(context.Context, string, image.Platform) (graph.Image, error) {
			var img graph.Image
			if trigger != "" {
				img.Config.Config.OnBuild = []string{trigger}
			}
			return img, nil
		}
		var out [2]strings.Builder
		for i := range out {
			g, err := graph.Plan(t.Context(), file, graph.Options{BuildPlatform: amd64}, resolve)
			if err != nil {
				checkError(t, err)
				return
			}
			checkGraph(t, g)
			if err := g.WriteJSON(&out[i]); err != nil {
				t.Fatal(err)
			}
			if !json.Valid([]byte(out[i].String())) {
				t.Fatal("not JSON")
			}
			if err := g.WriteDOT(io.Discard); err != nil {
				t.Fatal(err)
			}
		}
		if out[0].String() != out[1].String() {
			t.Error("a second plan differs")
		}
	})
}

// checkError checks that an error can be shown.
func checkError(t *testing.T, err error) {
	if strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("error of several lines, or with escapes: %q", err)
	}
	if e, ok := errors.AsType[*dockerfile.Error](err); ok {
		if e.Line > 0 && e.Detail() == "" {
			t.Errorf("%v: no detail", e)
		}
		if strings.Contains(e.Detail(), "\x1b") {
			t.Errorf("detail with escapes: %q", e.Detail())
		}
	}
}
