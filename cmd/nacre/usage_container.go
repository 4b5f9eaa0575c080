package main

import (
	"context"

	"nacre/internal/container"
	"nacre/internal/registry/store"
)

// containerUsage is what containers take of the disk beside their images: all of those that do not run
// can be had back.
func (a *app) containerUsage(ctx context.Context) (t store.UsageTotal, list []*container.Container, err error) {
	cs, err := a.containers(ctx)
	if err != nil {
		return t, nil, err
	}
	if list, err = cs.List(ctx); err != nil {
		return t, nil, err
	}
	for _, c := range list {
		n := c.Size()
		t.Total++
		t.Size += n
		if c.State.Status.Alive() {
			t.Active++
		} else {
			t.Reclaimable += n
		}
	}
	return t, list, nil
}
