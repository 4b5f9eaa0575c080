package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// curve shows how what nacre does costs more when there is more of something. At each point run
// takes the measurements that works names; one that does not go so far is left zero.
type curve struct {
	name, title, axis string
	points            []int
	works             []string
	note              string
	run               func(c *site, n int) ([]cost, error)
}

// site is where one point is measured: a store of its own and a folder for contexts.
type site struct {
	*nacre
	dir string
}

var curves = []curve{filesCurve, layersCurve, stepsCurve, imagesCurve, buildsCurve, tagsCurve}

// runCurve measures all points, each with a new store.
func runCurve(o options, c curve) error {
	points := c.points
	if o.scale < 1 {
		points = points[1:2]
	}
	var all [][]cost
	begin := time.Now()
	for _, n := range points {
		costs, err := c.at(o, n)
		if err != nil {
			return fmt.Errorf("%d %s: %w", n, c.axis, err)
		}
		all = append(all, costs)
		fmt.Fprintf(os.Stderr, "%s: %d, %.1f s so far\n", c.name, n, time.Since(begin).Seconds())
	}
	rows := c.rows(points, all)
	c.print(rows)
	return o.write(c.name, c.title, c.markdown(rows))
}

func (c curve) at(o options, n int) ([]cost, error) {
	dir, err := os.MkdirTemp(o.dir, "curve-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	p := &site{newNacre(o.nacre, dir, busybox), filepath.Join(dir, "ctx")}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		return nil, err
	}
	if err := p.start(); err != nil {
		return nil, err
	}
	settle()
	return c.run(p, n)
}

// curveHeads are the columns after what is done.
var curveHeads = []string{"elapsed", "processor", "memory", "growth"}

// rows say for each work and point what it took, and its growth since the point before: the
// exponent e of a cost that goes with the e-th power. 1 is linear.
func (c curve) rows(points []int, all [][]cost) (rows [][]string) {
	for w, work := range c.works {
		last := -1
		for i, n := range points {
			x := all[i][w]
			if x.wall == 0 {
				continue
			}
			growth := ""
			if last >= 0 {
				growth = exponent(points[last], n, all[last][w].cpu, x.cpu)
			}
			last = i
			rows = append(rows, []string{work, fmt.Sprint(n), span(x.wall), span(x.cpu), fmt.Sprintf("%d MB", x.rss/1e6), growth})
		}
	}
	return rows
}

func exponent(n, m int, a, b time.Duration) string {
	if a <= 0 || b <= 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", math.Log(float64(b)/float64(a))/math.Log(float64(m)/float64(n)))
}

func span(d time.Duration) string {
	if d < 100*time.Millisecond {
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func (c curve) print(rows [][]string) {
	fmt.Printf("\n%s\n", c.title)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "    \t%s\t%s\n", c.axis, strings.Join(curveHeads, "\t"))
	for _, r := range rows {
		fmt.Fprintf(t, "    %s\n", strings.Join(r, "\t"))
	}
	_ = t.Flush()
}

func (c curve) markdown(rows [][]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s.", machine())
	if c.note != "" {
		b.WriteString(" " + c.note)
	}
	b.WriteString("\n\n" + tableHead("", append([]string{c.axis}, curveHeads...)))
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(r, " | "))
	}
	b.WriteByte('\n')
	return b.String()
}

// thrice measures what may be done again and again, and returns the median run.
func thrice(f func() (cost, error)) (cost, error) {
	var all []cost
	for range 3 {
		c, err := f()
		if err != nil {
			return c, err
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b cost) int { return int(a.wall - b.wall) })
	return all[1], nil
}

// series takes measurements one after another until one fails.
type series struct {
	costs []cost
	err   error
}

func (s *series) take(f func() (cost, error)) {
	if s.err != nil {
		return
	}
	c, err := f()
	s.costs, s.err = append(s.costs, c), err
}

func (s *series) takeMedian(f func() (cost, error)) {
	s.take(func() (cost, error) { return thrice(f) })
}

// skip leaves out a measurement.
func (s *series) skip() { s.take(func() (cost, error) { return cost{}, nil }) }

// do is something that is not measured.
func (s *series) do(err error) {
	if s.err == nil {
		s.err = err
	}
}
