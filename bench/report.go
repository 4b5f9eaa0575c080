package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// results of one workload.
type results struct {
	workload workload
	rounds   int
	took     time.Duration // all of it, with what is not measured
	rows     []row         // nacre's is the first
	floor    row
}

type row struct {
	name, version string
	costs         [][]cost // by case, then by round; nil: it does not do this
}

func (r *row) add(costs []cost) {
	if r.costs == nil {
		r.costs = make([][]cost, len(costs))
	}
	for i, c := range costs {
		r.costs[i] = append(r.costs[i], c)
	}
}

func (r row) wall(c int) time.Duration {
	return median(r.costs[c], func(x cost) time.Duration { return x.wall })
}

// heads are the columns of a table, after the title of the case.
var heads = []string{"elapsed", "on disk", "processor", "memory", "written", "to nacre", "goal", "to floor"}

// lines of one case, each with a column for its name and for each of heads. Ratios are of
// elapsed time.
func (r results) lines(c int) (out [][]string) {
	ours := r.rows[0].wall(c)
	for i, row := range r.rows {
		if row.costs == nil {
			continue
		}
		ratio, goal, floor := "", "", ""
		if i > 0 {
			ratio = times(row.wall(c), ours)
			if g := r.workload.cases[c].goal[row.name]; g > 0 {
				goal = fmt.Sprintf("%.1f×", g)
			}
		}
		if r.floor.costs != nil {
			floor = times(row.wall(c), r.floor.wall(c))
		}
		out = append(out, append(figures(strings.TrimSpace(row.name+" "+row.version), row.costs[c]), ratio, goal, floor))
	}
	if r.floor.costs != nil {
		out = append(out, append(figures("floor: "+r.workload.cases[c].floor, r.floor.costs[c]), times(r.floor.wall(c), ours), "", ""))
	}
	return out
}

func figures(name string, costs []cost) []string {
	of := func(f func(cost) time.Duration) string { return spell(median(costs, f)) }
	return []string{
		name,
		of(func(x cost) time.Duration { return x.wall }),
		of(func(x cost) time.Duration { return x.disk }),
		of(func(x cost) time.Duration { return x.cpu }),
		fmt.Sprintf("%d MB", median(costs, func(x cost) int64 { return x.rss })/1e6),
		fmt.Sprintf("%.1f MB", float64(median(costs, func(x cost) int64 { return x.written }))/1e6),
	}
}

// spell writes a time of at least a tenth of a second in seconds, and less in milliseconds.
func spell(d time.Duration) string {
	if d < 100*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.3f s", d.Seconds())
}

// times says how many times b a is.
func times(a, b time.Duration) string {
	ratio := a.Seconds() / b.Seconds()
	if ratio < 9.95 {
		return fmt.Sprintf("%.2f×", ratio)
	}
	return fmt.Sprintf("%.0f×", ratio)
}

// print shows the tables in a terminal.
func (r results) print(w io.Writer) {
	for c, info := range r.workload.cases {
		fmt.Fprintf(w, "\n%s  %s (median of %d)\n", r.workload.name, info.title, r.rounds)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(t, "    \t%s\n", strings.Join(heads, "\t"))
		for _, l := range r.lines(c) {
			fmt.Fprintf(t, "    %s\n", strings.Join(l, "\t"))
		}
		_ = t.Flush() // to standard output or memory
		for _, n := range info.notes {
			fmt.Fprintln(w, "   ", n)
		}
	}
	fmt.Fprintf(w, "%s took %.0f s, %.0f s a round\n", r.workload.name, r.took.Seconds(), r.took.Seconds()/float64(r.rounds))
}

// markdown is the same for the page.
func (r results) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s; rounds: %d, of %.0f s each.\n", machine(), r.rounds, r.took.Seconds()/float64(r.rounds))
	for c, info := range r.workload.cases {
		b.WriteString("\n" + tableHead(info.title, heads))
		for _, l := range r.lines(c) {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(l, " | "))
		}
		for _, n := range info.notes {
			fmt.Fprintf(&b, "\n%s\n", n)
		}
	}
	b.WriteByte('\n')
	return b.String()
}

// tableHead begins a table whose first column is text, and figures the others.
func tableHead(title string, heads []string) string {
	return "| " + title + " | " + strings.Join(heads, " | ") + " |\n|---|" + strings.Repeat("--:|", len(heads)) + "\n"
}
