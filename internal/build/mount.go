package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"nacre/internal/cache"
	"nacre/internal/copier"
	"nacre/internal/graph"
	"nacre/internal/sandbox"
	"nacre/internal/source"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// mounts puts the --mounts of a RUN into its sandbox: directories first, those that hold
// others before these, then the files of secrets. What the program gets that nobody
// may see is noted in w.hidden, what is to be given back in w.temp.
func (w *work) mounts(ctx context.Context, op *graph.Run, config *sandbox.Config) error {
	caches, err := w.useCaches(ctx, op.Mounts)
	if err != nil {
		return err
	}
	list := w.sortedMounts(op, config)
	for _, m := range list {
		switch m.Type {
		case graph.MountBind:
			err = w.bind(ctx, m, config)
		case graph.MountCache:
			config.Spec.Mounts = append(config.Spec.Mounts, specs.Mount{
				Destination: m.Target, Type: "bind", Source: caches[cacheName(m, w.variants[originOf(m)])], Options: options(m),
			})
		case graph.MountTmpfs:
			config.Spec.Mounts = append(config.Spec.Mounts, tmpfs(m))
		case graph.MountSecret:
			err = w.secret(m, config)
		case graph.MountSSH:
			err = w.ssh(m, config)
		}
		if err != nil {
			return fmt.Errorf("mount of type %s: %w", m.Type, err)
		}
	}
	config.Files = uncovered(config.Files, list)
	return nil
}

// sortedMounts are the mounts of a RUN in the order of their targets. Programs find the first of the agents.
func (w *work) sortedMounts(op *graph.Run, config *sandbox.Config) []graph.Mount {
	first := slices.IndexFunc(op.Mounts, func(m graph.Mount) bool { return m.Type == graph.MountSSH })
	if p := config.Spec.Process; first >= 0 && !hasEnv(p.Env, "SSH_AUTH_SOCK") {
		p.Env = append(p.Env, "SSH_AUTH_SOCK="+op.Mounts[first].Target)
	}
	list := slices.Clone(op.Mounts)
	slices.SortStableFunc(list, func(a, b graph.Mount) int { return strings.Compare(a.Target, b.Target) })
	return list
}

func options(m graph.Mount) []string {
	if m.ReadOnly {
		return []string{"ro"}
	}
	return nil
}

func tmpfs(m graph.Mount) specs.Mount {
	o := append(options(m), "nosuid")
	if m.Size > 0 {
		o = append(o, "size="+strconv.FormatInt(m.Size, 10))
	}
	return specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: o}
}

// uncovered leaves out the files every step has (/etc/hosts) where the Dockerfile mounts
// something of its own there.
func uncovered(files []sandbox.File, list []graph.Mount) []sandbox.File {
	return slices.DeleteFunc(files, func(f sandbox.File) bool {
		return strings.HasPrefix(f.Path, "/etc/") && slices.ContainsFunc(list, func(m graph.Mount) bool {
			directory := m.Type != graph.MountSecret && m.Type != graph.MountSSH
			return directory && strings.HasPrefix(f.Path+"/", m.Target+"/")
		})
	})
}

// addMounts adds what the mounts of a RUN are from to a key: by definition, or by what it came out as.
func (w *work) addMounts(ctx context.Context, h *cache.Hash, op *graph.Run, content bool) error {
	for _, m := range op.Mounts {
		switch {
		case m.Type != graph.MountBind && m.Type != graph.MountCache, m.Type == graph.MountCache && originOf(m) == origin{}:
		case m.From == nil:
			sum, err := w.contextSum(ctx, m, content, w.epoch)
			if err != nil {
				return err
			}
			h.Add("context", sum)
		case !content:
			w.addRoot(h, "from", w.input(m.From))
		default:
			if err := w.addFrom(ctx, h, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// addFrom adds what a mount from another root holds: the files that are mounted. Of an image,
// or where it is all of the root, its layers are known without reading a file.
func (w *work) addFrom(ctx context.Context, h *cache.Hash, m graph.Mount) error {
	if _, base := m.From.Op.(*graph.Base); base || m.Source == "." {
		contents, err := w.inputContents(ctx, w.input(m.From))
		for _, d := range contents {
			h.Add("from", d.String())
		}
		return err
	}
	f, err := w.rootFS(ctx, w.input(m.From).layers)
	if err != nil {
		return err
	}
	name, err := w.resolveSource(f, m)
	if err != nil {
		return err
	}
	sum, err := source.SumFS(ctx, f, []string{name}, source.SumOptions{NotAfter: w.epoch})
	h.Add("from", sum.String())
	return err
}

// contextSum is a digest of what a mount shows of the context.
func (w *work) contextSum(ctx context.Context, m graph.Mount, content bool, notAfter *time.Time) (string, error) {
	t, err := w.contextNamed(m.Context).open(ctx)
	if err != nil {
		return "", err
	}
	name, err := w.resolveSource(t, m)
	if err != nil {
		return "", err
	}
	names := []string{name}
	sum, err := t.Sum(ctx, names, notAfter)
	if !content {
		w.used = append(w.used, usedFiles{"mount " + m.Target, t, names, w.epoch})
	}
	return sum.String(), err
}

// resolveSource follows the symlinks of a mount's source, which must be there.
func (w *work) resolveSource(t tree, m graph.Mount) (string, error) {
	name, err := t.Resolve(m.Source)
	if err == nil {
		_, err = t.Lstat(name)
	}
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return name, err
	case m.From != nil:
		return "", fmt.Errorf("mount of type %s: %q: %w in %s", m.Type, "/"+m.Source, copier.ErrAbsent, m.From.Stage)
	}
	e := &SourceError{Source: m.Source}
	if c, ok := t.(contextTree); ok && c.Excluded(m.Source) {
		e.Hint = "the file is there, but .dockerignore leaves it out"
	}
	return "", e
}
