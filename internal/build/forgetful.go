package build

import (
	"context"

	"nacre/internal/cache"
)

// forgetful is a cache that has nothing and keeps nothing.
type forgetful struct{}

func (forgetful) Get(context.Context, cache.Key) (cache.Output, bool, error) {
	return cache.Output{}, false, nil
}

func (forgetful) Put(context.Context, cache.Record, cache.Output) error { return nil }

func (forgetful) Nearest(context.Context, string) (cache.Record, bool, error) {
	return cache.Record{}, false, nil
}

func (forgetful) Earlier(context.Context, string, int) ([]cache.Record, error) { return nil, nil }

func (forgetful) Note(context.Context, cache.Key) ([]byte, bool, error) { return nil, false, nil }
