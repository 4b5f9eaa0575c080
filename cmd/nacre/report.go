package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"nacre/internal/build"
	"nacre/internal/dockerfile"
	"nacre/internal/reference"
	"nacre/internal/registry/store"
	"nacre/internal/sandbox"
)

// hintError carries what to do next, shown on its own line.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// several are the errors of a command that goes on after one, each reported on its own.
type several []error

func (s several) Error() string   { return errors.Join(s...).Error() }
func (s several) Unwrap() []error { return s }

// orNil is the error of a command that had these; nil if there were none.
func (s several) orNil() error {
	if len(s) == 0 {
		return nil
	}
	return s
}

// report prints an error: what and where, then what to do.
func (a *app) report(err error) {
	var exit *exitError
	if errors.As(err, &exit) && exit.err == nil {
		return
	}
	var list several
	if !errors.As(err, &list) {
		list = several{err}
	}
	for _, err := range list {
		fmt.Fprintf(a.stderr, "error: %s\n", printable(err.Error()))
		var df *dockerfile.Error
		var step *build.StepError
		if errors.As(err, &df) && df.Detail() != "" {
			fmt.Fprintln(a.stderr, printable(strings.TrimRight(df.Detail(), "\n")))
		} else if errors.As(err, &step) && step.Detail != "" {
			fmt.Fprintln(a.stderr, printable(strings.TrimRight(step.Detail, "\n")))
		} else if unlike := (*build.UnlikeError)(nil); errors.As(err, &unlike) {
			fmt.Fprint(a.stderr, printable(unlikeDetail(unlike)))
		}
		if h := hint(err); h != "" {
			fmt.Fprintf(a.stderr, "hint: %s\n", printable(h))
		}
	}
}

// hint is what to do about an error, where that is known.
func hint(err error) string {
	var df *dockerfile.Error
	var h *hintError
	var start *sandbox.StartError
	var src *build.SourceError
	var allow *build.AllowError
	var exit *build.ExitError
	var unlike *build.UnlikeError
	switch {
	case errors.As(err, &df) && df.Hint != "":
		return df.Hint
	case errors.As(err, &h):
		return h.hint
	case errors.As(err, &src):
		return src.Hint
	case errors.As(err, &exit) && exit.Foreign != "":
		return "register an emulator with the kernel (Debian: qemu-user-static), or cross-compile in a stage FROM --platform=$BUILDPLATFORM"
	case errors.As(err, &exit) && exit.OOMKilled:
		return "--memory gives steps more"
	case errors.As(err, &unlike):
		return unlikeHint(unlike)
	case errors.Is(err, build.ErrTar):
		return "--verify-reproducible takes a directory or a URL"
	case errors.As(err, &allow):
		return allow.Hint
	case errors.Is(err, reference.ErrUppercase):
		return "names of repositories are in lower case; only tags may have capitals"
	case errors.Is(err, sandbox.ErrNoRuntime):
		return "install it: crun and runc are packages of most systems, runsc is gVisor's; without --runtime nacre runs it itself"
	case errors.Is(err, store.ErrAmbiguous):
		return "give more of the ID"
	case errors.As(err, &start) && start.Code == sandbox.CodeSandbox && errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return "nacre info says what keeps programs from being run here; a Dockerfile of COPY, ADD and metadata builds anywhere"
	}
	return registryHint(err)
}
