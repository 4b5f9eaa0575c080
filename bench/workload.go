package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// workload is one kind of work. Its prepare makes the context, the same on every machine; round
// takes all measurements of one round with one builder, and floor those of the same without
// any builder, both in the order of cases.
type workload struct {
	name, title string
	also        []string // names of what it measures besides
	rounds      int      // where nobody asks for a number for it alone: at least so many
	cases       []caseInfo
	prepare     func(dir string) error
	round       func(dir string, b builder, round int) ([]cost, error)
	floor       func(dir string, round int) ([]cost, error)
}

// caseInfo is one measurement and what it ought to come to: how many times as fast as
// each peer nacre is to be (the goals of the design, measured on its reference machine).
type caseInfo struct {
	title string
	floor string // what the floor does
	goal  map[string]float64
	notes []string // where a peer does less work, or more
}

var workloads = []workload{w1, w2, w3, w4, w5, w6, w8, w9, w10}

// fourfold is the goal of everything that ends with a push of layers compressed with gzip.
var fourfold = map[string]float64{"docker": 4, "buildah": 4, "podman": 4, "buildkit": 4}

// measure runs all rounds. Builders take turns, and who begins changes. The floor comes first
// in the first round, which is to warm up the page cache for all.
func (w workload) measure(o options, builders []builder) (results, error) {
	dir := filepath.Join(o.dir, w.name)
	if err := w.prepare(dir); err != nil {
		return results{}, err
	}
	r := results{workload: w, rounds: max(o.roundsOf(w.name), w.atLeast(o))}
	for _, b := range builders {
		r.rows = append(r.rows, row{name: b.name(), version: b.version()})
	}
	begin := time.Now()
	for round := range r.rounds {
		if w.floor != nil {
			costs, err := w.floor(dir, round)
			if err != nil {
				return r, fmt.Errorf("floor: %w", err)
			}
			r.floor.add(costs)
		}
		for i := range builders {
			i := (i + round) % len(builders)
			since := time.Now()
			costs, err := w.round(dir, builders[i], round)
			if errors.Is(err, errors.ErrUnsupported) {
				continue
			}
			if err != nil {
				return r, fmt.Errorf("%s: %w", builders[i].name(), err)
			}
			r.rows[i].add(costs)
			fmt.Fprintf(os.Stderr, "%s round %d of %d: %s, %.1f s\n", w.name, round+1, r.rounds, builders[i].name(), time.Since(since).Seconds())
		}
	}
	r.took = time.Since(begin)
	return r, nil
}

func (w workload) atLeast(o options) int {
	if o.rounds[w.name] > 0 || o.scale != 1 {
		return 0
	}
	return w.rounds
}

// floorOf runs the program of floors.
func floorOf(args ...string) (cost, error) { return measure(exec.Command(floorProgram, args...), 0) }

// cold is a build of what nobody has built before.
func cold(dir string, b builder, _ int) ([]cost, error) {
	if err := b.reset(); err != nil {
		return nil, err
	}
	settle()
	c, err := b.build(dir+"/ctx", dir+"/Dockerfile", "cold")
	return []cost{c}, err
}

func write(dir string, files map[string]string) error {
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// prepared tells whether dir is made already; else it is emptied, and done says that it is made.
func prepared(dir string) (is bool, done func() error, err error) {
	file := filepath.Join(dir, "done-1")
	if _, err := os.Stat(file); err == nil {
		return true, nil, nil
	}
	return false, func() error { return os.WriteFile(file, nil, 0o644) }, os.RemoveAll(dir)
}

// noise is content that does not compress and is the same everywhere (xorshift64*).
type noise struct{ x uint64 }

func newNoise(seed uint64) *noise { return &noise{seed*0x9E3779B97F4A7C15 + 1} }

func (n *noise) fill(b []byte) {
	for i := range b {
		if i%8 == 0 {
			n.x ^= n.x >> 12
			n.x ^= n.x << 25
			n.x ^= n.x >> 27
		}
		b[i] = byte((n.x * 2685821657736338717) >> (8 * (i % 8)))
	}
}
