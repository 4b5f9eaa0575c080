package build

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"nacre/internal/dockerfile"
	"nacre/internal/graph"
	"nacre/internal/image"
)

// Imported is the config of an image made from a root file system: changes are
// Dockerfile instructions that only touch the config, as docker's import and commit take them.
func Imported(ctx context.Context, p image.Platform, changes []string, comment string, created time.Time) (image.Config, error) {
	text := "FROM scratch\n" + strings.Join(changes, "\n") + "\n"
	file, err := dockerfile.Parse("--change", []byte(text))
	if err != nil {
		return image.Config{}, err
	}
	if len(file.Stages) != 1 {
		return image.Config{}, fmt.Errorf("--change: FROM has no place here")
	}
	g, err := graph.Plan(ctx, file, graph.Options{Platform: p, BuildPlatform: p}, nil)
	if err != nil {
		return image.Config{}, err
	}
	for _, s := range g.Steps {
		if _, ok := s.Op.(*graph.Workdir); !ok {
			return image.Config{}, fmt.Errorf("--change %q: only instructions that set the config are possible", strings.TrimSpace(s.Name))
		}
	}
	cfg := g.Target.Config
	if !hasWorkdir(g) {
		cfg.Config.WorkingDir = "" // FROM scratch set it, import does not
	}
	cfg.Created = &created
	cfg.History = []image.History{{Created: &created, Comment: comment}}
	return cfg, nil
}

func hasWorkdir(g *graph.Graph) bool {
	return slices.ContainsFunc(g.Steps, func(s *graph.Step) bool {
		_, ok := s.Op.(*graph.Workdir)
		return ok
	})
}
