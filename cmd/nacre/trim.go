package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"nacre/internal/cache/trim"
	"nacre/internal/registry/store"
)

const (
	// policyVariable says by what the build cache is trimmed; without it the file policyFile of the store does.
	policyVariable = "NACRE_CACHE_POLICY"
	policyFile     = "cache-policy"

	// trimTime bounds how long a build that has ended is held up by it, now and then.
	trimTime = 2 * time.Second
)

// cachePolicy is by what the build cache is trimmed.
func (a *app) cachePolicy() (trim.Policy, error) {
	if text := os.Getenv(policyVariable); text != "" {
		p, err := trim.Default().Parse(text)
		if err != nil {
			err = fmt.Errorf("%s: %w", policyVariable, err)
		}
		return p, err
	}
	path := filepath.Join(a.rootFolder(), policyFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return trim.Default(), nil
	}
	if err != nil {
		return trim.Policy{}, err
	}
	p, err := trim.Default().Parse(string(text))
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return p, err
}

// trimCache trims the build cache after a build, where it is time for it. What goes wrong with that is no matter of the build's.
func (a *app) trimCache(ctx context.Context, s *store.Store, p trim.Policy) {
	if ctx.Err() != nil {
		return // interrupted: whoever did that does not want to wait
	}
	ctx, stop := context.WithTimeout(ctx, trimTime)
	defer stop()
	r, err := s.Trim(ctx, p)
	if a.logLevel != "debug" {
		return
	}
	if len(r.Items) > 0 {
		fmt.Fprintf(a.stderr, "build cache trimmed: %d things, %s\n", len(r.Items), humanSize(r.Bytes))
	}
	if err != nil {
		fmt.Fprintln(a.stderr, "build cache not trimmed:", err)
	}
}
