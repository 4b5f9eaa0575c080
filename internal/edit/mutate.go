package edit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// Mutation is a change of an image's config. What is nil or empty stays.
type Mutation struct {
	// Entrypoint, where it is set, takes Cmd away unless that is set too, as everywhere with docker.
	Entrypoint, Cmd       *[]string
	Env, UnsetEnv         []string // NAME=VALUE; NAME
	Labels                map[string]string
	UnsetLabels           []string
	User, WorkingDir      *string
	StopSignal, Author    *string
	Expose, UnsetExpose   []string // 80/tcp
	Volumes, UnsetVolumes []string
	Platform              *image.Platform
	Created               *time.Time
	// Changed is applied first, and Said is what it does, in words.
	Changed func(context.Context, image.Config) (image.Config, error)
	Said    []string
}

// Mutate changes the config, and says in history what of it.
func Mutate(m Mutation) Change {
	return func(ctx context.Context, p *Parts) error {
		cfg, history, layers := p.Config, p.Config.History, p.Config.RootFS
		if m.Changed != nil {
			var err error
			if cfg, err = m.Changed(ctx, cfg); err != nil {
				return err
			}
		}
		said := append(slices.Clone(m.Said), m.settings(&cfg)...)
		said = append(said, m.lists(&cfg)...)
		if m.Platform != nil {
			cfg.Platform = *m.Platform
		}
		if m.Author != nil {
			cfg.Author = *m.Author
		}
		if m.Created != nil {
			cfg.Created = m.Created
		}
		if cfg.OS == "" || cfg.Architecture == "" {
			return fmt.Errorf("%w: an image without os or architecture", registry.ErrInvalid)
		}
		cfg.History, cfg.RootFS = history, layers
		news := !same(cfg, p.Config)
		p.Config = cfg
		if news && len(said) > 0 { // else it was so already
			p.tell(image.History{Created: cfg.Created, CreatedBy: strings.Join(said, "; "), Comment: "nacre image mutate"})
		}
		return nil
	}
}

// settings changes what there is one of, and says so in a Dockerfile's words.
func (m Mutation) settings(cfg *image.Config) (said []string) {
	c := &cfg.Config
	if m.Entrypoint != nil {
		c.Entrypoint = *m.Entrypoint
		said = append(said, "ENTRYPOINT "+list(c.Entrypoint))
		if m.Cmd == nil {
			c.Cmd = nil
		}
	}
	if m.Cmd != nil {
		c.Cmd = *m.Cmd
		said = append(said, "CMD "+list(c.Cmd))
	}
	for _, s := range []struct {
		word string
		to   *string
		set  *string
	}{{"USER", &c.User, m.User}, {"WORKDIR", &c.WorkingDir, m.WorkingDir}, {"STOPSIGNAL", &c.StopSignal, m.StopSignal}} {
		if s.set != nil {
			*s.to = *s.set
			said = append(said, strings.TrimSpace(s.word+" "+*s.set))
		}
	}
	return said
}

func list(words []string) string {
	data, err := image.Marshal(append([]string{}, words...))
	if err != nil {
		return "?"
	}
	return string(data)
}

// lists changes what there may be several of.
func (m Mutation) lists(cfg *image.Config) (said []string) {
	c := &cfg.Config
	c.Env = slices.DeleteFunc(slices.Clone(c.Env), func(kv string) bool { return slices.Contains(m.UnsetEnv, nameOf(kv)) })
	for _, kv := range m.Env {
		at := slices.IndexFunc(c.Env, func(have string) bool { return nameOf(have) == nameOf(kv) })
		if at < 0 {
			c.Env = append(c.Env, kv)
		} else {
			c.Env[at] = kv
		}
		said = append(said, "ENV "+kv)
	}
	for _, name := range m.UnsetEnv {
		said = append(said, "unset ENV "+name)
	}
	labels := make([]string, 0, len(m.Labels))
	for _, k := range slices.Sorted(maps.Keys(m.Labels)) {
		labels = append(labels, "LABEL "+k+"="+m.Labels[k])
	}
	c.Labels = changed(c.Labels, m.Labels, m.UnsetLabels)
	said = append(said, labels...)
	for _, k := range m.UnsetLabels {
		said = append(said, "unset LABEL "+k)
	}
	c.ExposedPorts = changed(c.ExposedPorts, set(m.Expose), m.UnsetExpose)
	said = append(said, words("EXPOSE", m.Expose, m.UnsetExpose)...)
	c.Volumes = changed(c.Volumes, set(m.Volumes), m.UnsetVolumes)
	return append(said, words("VOLUME", m.Volumes, m.UnsetVolumes)...)
}

func words(word string, add, remove []string) (said []string) {
	for _, s := range add {
		said = append(said, word+" "+s)
	}
	for _, s := range remove {
		said = append(said, "unset "+word+" "+s)
	}
	return said
}

func nameOf(kv string) string {
	name, _, _ := strings.Cut(kv, "=")
	return name
}

func set(list []string) map[string]struct{} {
	m := map[string]struct{}{}
	for _, s := range list {
		m[s] = struct{}{}
	}
	return m
}

// changed is was with some keys more and some less; nil where none is left.
func changed[V any](was, add map[string]V, remove []string) map[string]V {
	if len(add) == 0 && len(remove) == 0 {
		return was
	}
	now := maps.Clone(was)
	if now == nil {
		now = map[string]V{}
	}
	for _, k := range remove {
		delete(now, k)
	}
	maps.Copy(now, add)
	if len(now) == 0 {
		return nil
	}
	return now
}
