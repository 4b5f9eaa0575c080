package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"nacre/internal/event"
	"nacre/internal/isolation"
	"nacre/internal/reference"
	"nacre/internal/registry"
	"nacre/internal/registry/store"
	"nacre/internal/ui/json"
	"nacre/internal/ui/text"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// app is what the commands share: the streams, the global flags, and the store
// once a command has asked for it.
type app struct {
	stdin          *os.File
	stdout         *output
	stderr         *os.File
	root, logLevel string
	isolation      isolation.Choice // of commands that run something
	opened         *store.Store
	registries     registries
	pullOnce       sync.Once
	pulling        *onceWriter
}

// store opens the store on first use, so that commands that need none (help,
// completion, version) do no work.
func (a *app) store(ctx context.Context) (*store.Store, error) {
	if a.opened != nil {
		return a.opened, nil
	}
	s, err := store.Open(ctx, a.rootFolder(), store.Options{})
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		err = &hintError{err, "--root or NACRE_ROOT put the store elsewhere"}
	}
	if err != nil {
		return nil, err
	}
	a.opened = s
	return s, nil
}

// storeToCheck opens a store that may be damaged, or that may not be written to.
func (a *app) storeToCheck(ctx context.Context, repair bool) (*store.Store, error) {
	if !repair && errors.Is(unix.Access(a.rootFolder(), unix.W_OK), unix.EROFS) {
		s, err := store.Open(ctx, a.rootFolder(), store.Options{ReadOnly: true})
		if err == nil {
			a.opened = s
		}
		return s, err
	}
	s, err := a.store(ctx)
	switch {
	case errors.Is(err, store.ErrDamaged) && repair:
		s, err = store.Open(ctx, a.rootFolder(), store.Options{Salvage: true})
	case errors.Is(err, fs.ErrPermission) && !repair:
		s, err = store.Open(ctx, a.rootFolder(), store.Options{ReadOnly: true})
	case errors.Is(err, store.ErrDamaged):
		err = &hintError{err, "nacre system check --repair makes a new database of what is left"}
	}
	if err == nil {
		a.opened = s
	}
	return s, err
}

func (a *app) rootFolder() string {
	if a.root != "" {
		return a.root
	}
	return store.DefaultRoot()
}

func (a *app) close() error {
	if a.opened == nil {
		return nil
	}
	return a.opened.Close()
}

func (a *app) warnf(format string, args ...any) {
	if a.logLevel != "error" {
		fmt.Fprintf(a.stderr, "warning: "+format+"\n", args...)
	}
}

// progress is the chosen renderer of events, on standard error.
type progress struct {
	sink  event.Sink
	close func(error) error
}

// newProgress picks the renderer for --progress.
func (a *app) newProgress(kind string, quiet bool) (progress, error) {
	return a.newDisplay(kind, quiet, text.Options{})
}

// newBuildProgress is newProgress that explains, where it is told to, what the cache had of each step.
func (a *app) newBuildProgress(kind string, quiet, explain bool) (progress, error) {
	return a.newDisplay(kind, quiet, text.Options{Explain: explain})
}

// newTransfer is newProgress with the verb that heads the display, such as "Pulling".
func (a *app) newTransfer(verb, kind string, quiet bool) (progress, error) {
	return a.newDisplay(kind, quiet, text.Options{Verb: verb})
}

func (a *app) newDisplay(kind string, quiet bool, o text.Options) (progress, error) {
	if quiet || kind == "quiet" {
		return progress{event.Discard, func(error) error { return nil }}, nil
	}
	tty := term.IsTerminal(int(a.stderr.Fd()))
	switch kind {
	case "rawjson":
		p := json.New(a.stderr)
		return progress{p.Sink(), p.Close}, nil
	case "tty":
		if !tty {
			return progress{}, errors.New("--progress=tty: standard error is not a terminal")
		}
	case "plain":
		tty = false
	case "", "auto":
		tty = tty && os.Getenv("TERM") != "dumb" // which cannot move its cursor
	default:
		return progress{}, fmt.Errorf("--progress=%s: want auto, plain, tty, rawjson or quiet", kind)
	}
	o.TTY, o.Color = tty, tty && os.Getenv("NO_COLOR") == ""
	o.Size = func() (int, int) {
		w, h, _ := term.GetSize(int(a.stderr.Fd())) // zeros stand for 80 by 24
		return w, h
	}
	p := text.New(a.stderr, o)
	return progress{p.Sink(), p.Close}, nil
}

// image finds an image by name or ID, with docker's words when there is none.
func (a *app) image(ctx context.Context, name string) (store.Image, error) {
	s, err := a.store(ctx)
	if err != nil {
		return store.Image{}, err
	}
	img, err := s.Lookup(ctx, name)
	if errors.Is(err, registry.ErrAbsent) {
		return img, absent(name)
	}
	return img, err
}

// absent says in docker's words that there is no image called name.
func absent(name string) error {
	if n, err := reference.Parse(name); err == nil {
		name = n.Tagged().Familiar() // also of what was meant as an ID
	}
	return &hintError{&absentError{name}, "nacre images lists what there is; build, load and import add to it"}
}

type absentError struct{ name string }

func (e *absentError) Error() string { return "No such image: " + e.name }
func (e *absentError) Unwrap() error { return registry.ErrAbsent }
