package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"nacre/internal/event"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// CheckReport says what Check looked at and what it found.
type CheckReport struct {
	Images, Names, Layers, Blobs, Records int // how many there are
	Containers                            int
	Bytes                                 int64 // hashed
	Problems                              []Problem
	// Leftovers counts files and records of processes that died at work. They
	// are harmless; a repair removes them.
	Leftovers int
}

// Clean tells whether nothing is wrong, or no longer.
func (r CheckReport) Clean() bool {
	return !slices.ContainsFunc(r.Problems, func(p Problem) bool { return !p.Repaired })
}

// Problem is one thing that is not as it should be.
type Problem struct {
	Object   string // "layer sha256:...", "image nginx:latest"
	Text     string // what is wrong with it
	Fix      string // what a repair does, or what else helps
	Repaired bool
}

func (p Problem) String() string {
	s := p.Object + ": " + p.Text
	if p.Fix != "" {
		s += " (" + p.Fix + ")"
	}
	return s
}

// Check proves the store: it hashes every blob and layer, makes every index again
// to compare, and compares every record with what it tells of. Without repair nothing is
// changed. With it what is wrong is made anew where something else allows it and
// dropped otherwise: indexes from tars, layers from compressed forms, records
// from manifests. Others may use the store meanwhile.
func (s *Store) Check(ctx context.Context, repair bool, sink event.Sink) (CheckReport, error) {
	if repair {
		if err := s.writable(); err != nil {
			return CheckReport{}, err
		}
	}
	c := &checker{s: s, repair: repair, sink: sink, bad: map[digest.Digest]bool{}}
	for i, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"database", c.database},
		{"records of files", c.unrecorded},
		{"blobs", c.blobs},
		{"layers", c.layers},
		{"manifests", c.edges},
		{"images", c.images},
		{"names", c.names},
		{"repositories", c.repositories},
		{"cache", c.cache},
		{"containers", c.containers},
		{"leftovers", c.leftovers},
	} {
		step := event.Step{ID: i, Name: "check " + part.name}
		c.step = i
		sink(event.Started{Step: step, Time: time.Now()})
		err := part.run(ctx)
		sink(event.Done{ID: i, Time: time.Now(), Err: err})
		if err != nil {
			return c.report, fmt.Errorf("check %s: %w", part.name, s.fail(err))
		}
	}
	return c.report, nil
}

// checker is one run of Check.
type checker struct {
	s      *Store
	repair bool
	sink   event.Sink
	step   int

	mu     sync.Mutex // of what follows
	report CheckReport
	bad    map[digest.Digest]bool // blobs and layers that are not there or not right
}

// problem notes what is wrong and, when repairing, has fix put it right.
func (c *checker) problem(p Problem, fix func() error) error {
	if c.repair && fix != nil {
		if err := fix(); err != nil {
			return fmt.Errorf("repair %s: %w", p.Object, err)
		}
		p.Repaired = true
	}
	c.mu.Lock()
	c.report.Problems = append(c.report.Problems, p)
	c.mu.Unlock()
	return nil
}

func (c *checker) setBad(d digest.Digest, bad bool) {
	c.mu.Lock()
	c.bad[d] = bad
	c.mu.Unlock()
}

// hashed adds to the progress.
func (c *checker) hashed(n, total int64) {
	c.mu.Lock()
	c.report.Bytes += n
	e := event.Progress{ID: c.step, Time: time.Now(), Current: c.report.Bytes, Total: total, Unit: "B"}
	c.mu.Unlock()
	c.sink(e)
}

// database has SQLite check its file.
func (c *checker) database(ctx context.Context) error {
	lines, err := texts[string](ctx, c.s.db, "PRAGMA integrity_check")
	if err != nil {
		return err
	}
	if len(lines) == 1 && lines[0] == "ok" {
		return nil
	}
	again := func() error {
		for _, q := range []string{"REINDEX", "VACUUM"} {
			if _, err := c.s.db.ExecContext(ctx, q); err != nil {
				return err
			}
		}
		left, err := texts[string](ctx, c.s.db, "PRAGMA integrity_check")
		if err == nil && (len(left) != 1 || left[0] != "ok") {
			err = fmt.Errorf("%w: %s", ErrDamaged, left[0])
		}
		return err
	}
	return c.problem(Problem{Object: "database", Text: lines[0], Fix: "it is written anew"}, again)
}

// each runs f on all of list, on two processors.
func each[T any](ctx context.Context, list []T, f func(context.Context, T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for _, v := range list {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return f(ctx, v)
		})
	}
	return g.Wait()
}

func (c *checker) leftover(n int) {
	c.mu.Lock()
	c.report.Leftovers += n
	c.mu.Unlock()
}

// leftovers counts what processes left that died, and removes it when repairing.
func (c *checker) leftovers(ctx context.Context) error {
	var strays []string
	err := c.still(ctx, func(tx querier) (err error) {
		strays, err = c.s.strays(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	orphans, err := c.s.orphans()
	if err != nil {
		return err
	}
	pins, err := c.count(ctx, "SELECT count(*) FROM pin WHERE lease NOT IN (SELECT id FROM lease)")
	if err != nil {
		return err
	}
	owners, err := texts[string](ctx, c.s.db, "SELECT owner FROM lease")
	if err != nil {
		return err
	}
	dead := 0
	for _, id := range owners {
		if !c.s.alive(id) {
			dead++
		}
	}
	c.leftover(len(strays) + len(orphans) + pins + dead)
	if !c.repair {
		return nil
	}
	if _, err := c.s.removeStrays(ctx); err != nil {
		return err
	}
	err = c.s.update(ctx, func(tx querier) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM pin WHERE lease NOT IN (SELECT id FROM lease)")
		return err
	})
	return errors.Join(err, c.s.sweep(ctx))
}
