// Package remote is the registries of the world as one registry value: a client of the OCI
// distribution spec 1.1 and of Docker's registries. The domain of a repository's name says
// where it is; Host is one registry alone, its repositories named without domain.
//
// Downloads go on where a connection broke, uploads too; what comes is verified, what is sent is
// streamed. Requests are tried again after connection errors, 429 and 5xx, a bounded time. Credentials
// come from docker's config.json and go only to the registry they are for, and to
// the token server it names. Plain HTTP is spoken with loopback addresses and where the
// hosts file (registries.toml) allows it.
//
// The protocol is spoken over net/http, not through a library of this field: the one measured best
// (regclient) takes 1.1 ms at the start of every process, RUN steps included, which take
// three; its authentication cannot be used apart, holds tokens for a minute at
// least, and its uploads want a file where builds have a stream.
package remote

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"nacre/internal/reference"
	"nacre/internal/registry"
)

// Options adjusts New. The zero value works: docker's credentials, https, no mirrors.
type Options struct {
	// Hosts says how registries are reached (LoadHosts).
	Hosts Hosts
	// Credentials finds who we are for a registry; nil: those of docker's
	// config.json (DefaultCredentials).
	Credentials Credentials
	// UserAgent is sent with every request; "" means "nacre".
	UserAgent string
	// Warn hears of what is odd but no error: warnings of registries, mirrors that fail. Each
	// text comes once. nil: nobody.
	Warn func(string)
	// Timeouts of requests.
	Timeouts Timeouts
	// CertFolders have certificates as docker keeps them, in a folder for each registry; nil: those
	// of docker and podman.
	CertFolders []string
}

// Timeouts are how long is waited for what. Zero fields have defaults.
type Timeouts struct {
	Connect time.Duration // TCP and TLS, each; 30 s
	Idle    time.Duration // for the next bytes, or for an answer; 1 minute
	Commit  time.Duration // for the answer at the end of an upload, for which some registries copy it; 10 minutes
	Retry   time.Duration // the longest pause a busy registry is granted; 1 minute
}

func (t Timeouts) filled() Timeouts {
	or := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	or(&t.Connect, 30*time.Second)
	or(&t.Idle, time.Minute)
	or(&t.Commit, 10*time.Minute)
	or(&t.Retry, time.Minute)
	return t
}

// Registry is all registries. It implements registry.Registry, and of the
// abilities Stater, Ranger, TagLister, ReferrerLister, Mounter and Drafter. Its Refs
// are not supported: nobody can list the world.
type Registry struct {
	o      Options
	recent recent
	open   sessions

	sleep func(context.Context, time.Duration) error

	referring sync.Mutex // around a change of a list of referrers

	mu     sync.Mutex
	sites  map[string]*site // by domain
	warned map[string]bool
}

var _ interface {
	registry.Registry
	registry.Stater
	registry.Ranger
	registry.TagLister
	registry.ReferrerLister
	registry.Mounter
	registry.Drafter
} = (*Registry)(nil)

// New makes a client. Nothing is connected to before it is asked for.
func New(o Options) (*Registry, error) {
	if o.UserAgent == "" {
		o.UserAgent = "nacre"
	}
	if o.Credentials == nil {
		o.Credentials = DefaultCredentials()
	}
	o.Timeouts = o.Timeouts.filled()
	if err := o.Hosts.check(); err != nil {
		return nil, err
	}
	return &Registry{o: o, sleep: sleep, sites: map[string]*site{}, warned: map[string]bool{}}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// warnf says something once.
func (r *Registry) warnf(format string, args ...any) {
	if r.o.Warn == nil {
		return
	}
	text := fmt.Sprintf(format, args...)
	r.mu.Lock()
	said := r.warned[text] || len(r.warned) > 1000
	r.warned[text] = true
	r.mu.Unlock()
	if !said {
		r.o.Warn(text)
	}
}

// place is one repository: where it is, and its name there.
type place struct {
	*site
	repo string // without domain
}

// place finds where a repository is. Errors: ErrInvalid.
func (r *Registry) place(repo string) (place, error) {
	named, err := reference.ParseName(repo)
	if err != nil {
		return place{}, fmt.Errorf("%w: repository %q: %w", registry.ErrInvalid, repo, err)
	}
	if d := named.Domain; d == "" || d != "localhost" && !strings.ContainsAny(d, ".:") {
		return place{}, fmt.Errorf("%w: repository %q names no registry", registry.ErrInvalid, repo)
	}
	s, err := r.site(named.Domain)
	return place{s, named.Path}, err
}

// path is the URL path below /v2/ of something in the repository.
func (p place) path(e *endpoint, kind, name string) string {
	return e.prefix + p.repo + "/" + kind + "/" + name
}

// scope asks for rights on the repository, in the words of Docker's token protocol.
func (p place) scope(e *endpoint, actions string) string {
	return "repository:" + e.prefix + p.repo + ":" + actions
}

// Refs implements registry.Lister: ErrUnsupported.
func (r *Registry) Refs(context.Context) iter.Seq2[registry.Named, error] {
	return func(yield func(registry.Named, error) bool) {
		yield(registry.Named{}, fmt.Errorf("list all registries: %w", registry.ErrUnsupported))
	}
}

// checkRef refuses what would not be a part of a URL. Errors: ErrInvalid.
func checkRef(ref registry.Ref) error {
	if ref.Digest != "" {
		return registry.CheckDescriptor(registry.Descriptor{Digest: ref.Digest})
	}
	if !validTag(ref.Tag) {
		return fmt.Errorf("%w: %s: tag %q", registry.ErrInvalid, ref.Repo, ref.Tag)
	}
	return nil
}

// validTag is the distribution spec's grammar of tags.
func validTag(tag string) bool {
	if tag == "" || len(tag) > 128 || tag[0] == '.' || tag[0] == '-' {
		return false
	}
	return strings.Trim(tag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == ""
}

// name is how ref is asked for: its digest decides.
func name(ref registry.Ref) string {
	if ref.Digest != "" {
		return ref.Digest.String()
	}
	return ref.Tag
}

func is(status int, of ...int) bool {
	for _, s := range of {
		if s == status {
			return true
		}
	}
	return false
}
