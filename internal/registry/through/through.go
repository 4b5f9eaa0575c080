// Package through is a registry that fetches from others what it does not have: a cache that is
// filled by being read. The beginning of a repository's name says which other registry it
// comes from; all other repositories are the local registry's own.
//
// Content goes to whoever asks while it is stored, and is fetched once for all who ask at one time
// (fetch.go). It is part of the local registry when it has been verified, not before. An image that was
// asked for is fetched whole in the background (fill.go), so that it can be had when the other registry
// cannot be reached. How long it then stays is the local registry's matter.
package through

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Local is the registry that others are read into.
type Local interface {
	registry.Registry
	registry.Stater
	registry.Ranger
	registry.TagLister
	registry.RepoLister
	registry.ReferrerLister
	registry.Mounter
	registry.Adopter
}

// Upstream is another registry.
type Upstream struct {
	Prefix string          // beginning of the names here: "docker.io"
	Local  string          // what it is in the local registry; empty: the same
	Source registry.Reader // its repositories have no domain
	Repo   string          // what comes before names there
	TTL    time.Duration   // how long a tag is believed
}

// Options of New. Zero values work.
type Options struct {
	Now  func() time.Time
	Warn func(repo string, err error) // hears of what is served although the other registry fails, and of fetches that fail
	// Failed says what clients are told where another registry fails and nothing is here. nil: its error.
	Failed func(error) error
}

// Registry is a Local with others behind it. Its methods may be called concurrently.
type Registry struct {
	Local
	o         Options
	upstreams []Upstream
	scratch   string

	ctx  context.Context
	stop context.CancelFunc
	wait sync.WaitGroup
	room chan struct{} // one for each image that is filled

	mu      sync.Mutex
	checked map[string]time.Time // tags, by "repo:tag": when the other registry was asked last
	wanted  map[string][]string  // tags that are to name a manifest, by "repo@digest"
	filling map[string]bool      // by "repo@digest"
	flights map[string]*flight   // by "repo@digest"
}

// retry is how long a registry that failed is left alone, for a tag that can be served without it.
const retry = 30 * time.Second

// maxKnown bounds what is remembered; all of it can be found out again.
const maxKnown = 50_000

// fills is how many images are fetched whole in the background at one time.
const fills = 4

// New puts l before the others. Close ends what it starts.
func New(l Local, upstreams []Upstream, o Options) (*Registry, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Warn == nil {
		o.Warn = func(string, error) {}
	}
	if o.Failed == nil {
		o.Failed = func(err error) error { return err }
	}
	r := &Registry{
		Local: l, o: o, room: make(chan struct{}, fills),
		checked: map[string]time.Time{}, wanted: map[string][]string{}, filling: map[string]bool{}, flights: map[string]*flight{},
	}
	for _, u := range upstreams {
		if u.Local == "" {
			u.Local = u.Prefix
		}
		r.upstreams = append(r.upstreams, u)
	}
	var err error
	if r.scratch, err = makeScratch(l.Incoming()); err != nil {
		return nil, fmt.Errorf("make room for what is fetched: %w", err)
	}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r, nil
}

// scratchPrefix begins the names of our folders among what arrives.
const scratchPrefix = "through-"

// makeScratch makes a folder for this process, and removes those of processes long gone: what
// they left half there is fetched again.
func makeScratch(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	old, err := filepath.Glob(filepath.Join(dir, scratchPrefix+"*"))
	if err != nil {
		return "", err
	}
	for _, o := range old {
		if info, err := os.Stat(o); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			os.RemoveAll(o)
		}
	}
	return os.MkdirTemp(dir, scratchPrefix)
}

// Close breaks off what is being fetched.
func (r *Registry) Close() error {
	r.stop()
	r.wait.Wait()
	return os.RemoveAll(r.scratch)
}

// route finds where a repository is: in the local registry under the name local, and behind
// up, if that is not nil, under the name remote.
func (r *Registry) route(repo string) (up *Upstream, local, remote string, err error) {
	for i := range r.upstreams {
		u := &r.upstreams[i]
		if rest, ok := strings.CutPrefix(repo, u.Prefix+"/"); ok {
			remote = rest
			if u.Repo != "" {
				remote = u.Repo + "/" + rest
			}
			return u, u.Local + "/" + rest, remote, nil
		}
		// Each repository has one name: rules about the one could be got around by the other.
		if u.Local != u.Prefix && strings.HasPrefix(repo, u.Local+"/") {
			return nil, "", "", fmt.Errorf("repository %s: %w", repo, registry.ErrAbsent)
		}
	}
	return nil, repo, "", nil
}

func key(repo string, d digest.Digest) string { return repo + "@" + string(d) }

// Resolve implements registry.Reader. A tag is believed for a while; then the other registry is
// asked what it names. If that fails, it still names what it did.
func (r *Registry) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	up, local, remote, err := r.route(ref.Repo)
	if err != nil {
		return registry.Descriptor{}, err
	}
	here, there := ref, ref
	here.Repo, there.Repo = local, remote
	have, err := r.Local.Resolve(ctx, here)
	if up == nil || err != nil && !errors.Is(err, registry.ErrAbsent) {
		return have, err
	}
	found := err == nil
	if found && (ref.Digest != "" || r.fresh(local+":"+ref.Tag, up.TTL)) {
		return have, nil
	}
	now, err := up.Source.Resolve(ctx, there)
	switch {
	case err == nil:
		if ref.Tag != "" && ref.Digest == "" {
			r.note(local+":"+ref.Tag, r.o.Now())
			if !found || now.Digest != have.Digest {
				r.want(ctx, local, ref.Tag, now)
			}
		}
		return now, nil
	case found && !errors.Is(err, registry.ErrAbsent) && ctx.Err() == nil:
		r.o.Warn(ref.Repo, fmt.Errorf("%s is served as it was: %w", ref, err))
		r.note(local+":"+ref.Tag, r.o.Now().Add(retry-up.TTL))
		return have, nil
	}
	return registry.Descriptor{}, r.o.Failed(err)
}

// fresh tells whether a tag was looked at not longer than ttl ago.
func (r *Registry) fresh(tag string, ttl time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.checked[tag]
	age := r.o.Now().Sub(at)
	return ok && age < ttl && age > -retry // a clock set back is no reason to believe for ever
}

func (r *Registry) note(tag string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.checked) >= maxKnown {
		clear(r.checked)
	}
	r.checked[tag] = at
}

// want has a tag name a manifest as soon as that is here.
func (r *Registry) want(ctx context.Context, repo, tag string, d registry.Descriptor) {
	if r.Local.Tag(ctx, registry.Ref{Repo: repo, Tag: tag}, d) == nil {
		return // it is here already
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wanted) >= maxKnown {
		clear(r.wanted)
	}
	k := key(repo, d.Digest)
	for _, t := range r.wanted[k] {
		if t == tag {
			return
		}
	}
	r.wanted[k] = append(r.wanted[k], tag)
}

// Stat implements registry.Stater.
func (r *Registry) Stat(ctx context.Context, repo string, d digest.Digest) (registry.Descriptor, error) {
	up, local, remote, err := r.route(repo)
	if err != nil {
		return registry.Descriptor{}, err
	}
	desc, err := r.Local.Stat(ctx, local, d)
	if up == nil || !errors.Is(err, registry.ErrAbsent) {
		return desc, err
	}
	if f := r.flying(key(local, d)); f != nil {
		return f.desc, nil
	}
	if s, ok := up.Source.(registry.Stater); ok {
		if desc, err = s.Stat(ctx, remote, d); err != nil {
			err = r.o.Failed(err)
		}
	}
	return desc, err
}
