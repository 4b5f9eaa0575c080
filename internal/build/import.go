package build

import (
	"context"
	"errors"
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
		return image.Config{}, changeError(changes, err)
	}
	if len(file.Stages) != 1 {
		return image.Config{}, fmt.Errorf("--change: FROM has no place here")
	}
	g, err := graph.Plan(ctx, file, graph.Options{Platform: p, BuildPlatform: p}, nil)
	if err != nil {
		return image.Config{}, changeError(changes, err)
	}
	if err := onlyConfig(g); err != nil {
		return image.Config{}, err
	}
	cfg := g.Target.Config
	if !hasWorkdir(g) {
		cfg.Config.WorkingDir = "" // FROM scratch set it, import does not
	}
	cfg.Created = &created
	cfg.History = []image.History{{Created: &created, Comment: comment}}
	return cfg, nil
}

// Changed is the config of an image of which instructions, as in a Dockerfile, were applied to base. Its history stays.
func Changed(ctx context.Context, base image.Config, changes []string) (image.Config, error) {
	if len(changes) == 0 {
		return base, nil
	}
	file, err := dockerfile.Parse("--change", []byte("FROM base\n"+strings.Join(changes, "\n")+"\n"))
	if err != nil {
		return image.Config{}, changeError(changes, err)
	}
	if len(file.Stages) != 1 {
		return image.Config{}, fmt.Errorf("--change: FROM has no place here")
	}
	p := image.Platform{OS: base.OS, Architecture: base.Architecture, Variant: base.Variant}
	from := base
	from.Config.OnBuild = nil // they are for builds
	resolve := func(context.Context, string, image.Platform) (graph.Image, error) {
		return graph.Image{Config: from}, nil
	}
	g, err := graph.Plan(ctx, file, graph.Options{Platform: p, BuildPlatform: p}, resolve)
	if err != nil {
		return image.Config{}, changeError(changes, err)
	}
	if err := onlyConfig(g); err != nil {
		return image.Config{}, err
	}
	cfg := g.Target.Config
	cfg.History, cfg.Created, cfg.RootFS = base.History, base.Created, base.RootFS
	if cfg.Config.OnBuild == nil {
		cfg.Config.OnBuild = base.Config.OnBuild
	}
	return cfg, nil
}

// onlyConfig tells whether a graph does nothing to files.
func onlyConfig(g *graph.Graph) error {
	for _, s := range g.Steps {
		switch s.Op.(type) {
		case *graph.Workdir, *graph.Base:
		default:
			_, written, _ := strings.Cut(s.Name, "] ")
			return fmt.Errorf("--change %q: only instructions that set the config are possible", written)
		}
	}
	return nil
}

func hasWorkdir(g *graph.Graph) bool {
	return slices.ContainsFunc(g.Steps, func(s *graph.Step) bool {
		_, ok := s.Op.(*graph.Workdir)
		return ok
	})
}

// changeError names the change that is wrong; its place in a Dockerfile that nobody wrote helps nobody.
func changeError(changes []string, err error) error {
	var e *dockerfile.Error
	if !errors.As(err, &e) {
		return err
	}
	line := 2 // FROM is the first
	for _, c := range changes {
		next := line + strings.Count(c, "\n") + 1
		if e.Line >= line && e.Line < next {
			return fmt.Errorf("--change %q: %s", c, e.Msg)
		}
		line = next
	}
	return fmt.Errorf("--change: %s", e.Msg)
}
