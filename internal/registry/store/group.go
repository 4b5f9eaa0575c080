package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Changes that must survive power loss each wait for the disk twice: for the names of
// files and for the log. Those that come at the same time share it: one goroutine runs
// all that wait in one transaction.

// group gathers changes.
type group struct {
	mu    sync.Mutex
	queue []*change
	busy  bool
}

// change is one of a group.
type change struct {
	ctx context.Context
	run func(tx querier, m *moves) error
	// err is the outcome, to be read after done is closed.
	err  error
	done chan struct{}
}

// maxGroup bounds a transaction: others wait for its end.
const maxGroup = 64

// changeDurably runs f in a transaction, which it may share with other changes. When it returns nil the
// changes of f survive power loss, and so do names of files in the folders that it lists in moves. An error of f
// undoes what f did and nothing else.
func (s *Store) changeDurably(ctx context.Context, f func(tx querier, m *moves) error) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &change{ctx: context.WithoutCancel(ctx), run: f, done: make(chan struct{})}
	g := &s.group
	g.mu.Lock()
	g.queue = append(g.queue, c)
	lead := !g.busy
	g.busy = true
	g.mu.Unlock()
	if lead {
		s.runGroups(c)
	}
	<-c.done
	return c.err
}

// runGroups runs what waits until own is done; what has come since is led by another.
func (s *Store) runGroups(own *change) {
	g := &s.group
	for {
		g.mu.Lock()
		n := min(len(g.queue), maxGroup)
		batch := g.queue[:n:n]
		g.queue = g.queue[n:]
		if n == 0 {
			g.busy = false
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		s.runGroup(batch)
		select {
		case <-own.done:
			// Whoever waits may lead as well, so that no caller is kept for long.
			g.mu.Lock()
			if len(g.queue) == 0 {
				g.busy = false
				g.mu.Unlock()
				return
			}
			g.mu.Unlock()
			go s.runGroups(&change{done: make(chan struct{})})
			return
		default:
		}
	}
}

func (s *Store) runGroup(batch []*change) {
	moved := make([]*moves, len(batch))
	err := s.updateDurably(context.Background(), func(tx querier) error {
		var dirs []string
		for i, c := range batch {
			moved[i] = &moves{s: s}
			if c.err = s.runChange(tx, c, moved[i]); c.err != nil {
				moved[i].undo()
				continue
			}
			dirs = append(dirs, moved[i].sync...)
		}
		slices.Sort(dirs)
		return syncPaths(slices.Compact(dirs)...)
	})
	for i, c := range batch {
		if err != nil && moved[i] != nil {
			moved[i].undo()
		}
		if c.err == nil {
			c.err = err
		}
		if c.err == nil {
			s.unlink(moved[i].trash...)
		}
		close(c.done)
	}
}

// runChange runs one change so that it can be undone alone.
func (s *Store) runChange(tx querier, c *change, m *moves) (err error) {
	if _, err := tx.ExecContext(c.ctx, "SAVEPOINT change"); err != nil {
		return err
	}
	end := "RELEASE change"
	if err = c.run(tx, m); err != nil {
		end = "ROLLBACK TO change; RELEASE change"
	}
	if _, serr := tx.ExecContext(c.ctx, end); serr != nil {
		err = errors.Join(err, fmt.Errorf("end of a change: %w", serr))
	}
	return s.fail(err)
}
