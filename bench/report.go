package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"
)

// results of one workload.
type results struct {
	workload workload
	rounds   int
	rows     []row // nacre's is the first
}

type row struct {
	name, version string
	costs         [][]cost // by case, then by round
}

// line is what is said of one builder in one case.
type line struct {
	builder, wall, cpu, rss, ratio, goal string
}

// lines of one case. The ratio is how many times as long as nacre a peer takes.
func (r results) lines(c int) []line {
	var out []line
	wallOf := func(row row) time.Duration { return median(row.costs[c], func(x cost) time.Duration { return x.wall }) }
	ours := wallOf(r.rows[0])
	for i, row := range r.rows {
		l := line{
			builder: strings.TrimSpace(row.name + " " + row.version),
			wall:    fmt.Sprintf("%.3f s", wallOf(row).Seconds()),
			cpu:     fmt.Sprintf("%.2f s", median(row.costs[c], func(x cost) time.Duration { return x.cpu }).Seconds()),
			rss:     fmt.Sprintf("%d MB", median(row.costs[c], func(x cost) int64 { return x.rss })/1e6),
		}
		if i > 0 {
			l.ratio = fmt.Sprintf("%.1f×", wallOf(row).Seconds()/ours.Seconds())
			if g := r.workload.cases[c].goal[row.name]; g > 0 {
				l.goal = fmt.Sprintf("%.1f×", g)
			}
		}
		out = append(out, l)
	}
	return out
}

func (r results) print(w io.Writer) {
	for c, info := range r.workload.cases {
		fmt.Fprintf(w, "\n%s  %s (median of %d)\n", r.workload.name, info.title, r.rounds)
		fmt.Fprintf(w, "    %-28s %10s %10s %8s %8s %8s\n", "", "elapsed", "processor", "memory", "ratio", "goal")
		for _, l := range r.lines(c) {
			fmt.Fprintf(w, "    %-28s %10s %10s %8s %8s %8s\n", l.builder, l.wall, l.cpu, l.rss, l.ratio, l.goal)
		}
	}
}

const pageHead = `# Benchmarks

Whole commands as a user starts them, from the start of the process to its end, measured by ` + "`make bench`" + ` (` + "`make bench W=W3`" + ` for one
workload). All builders run in turns on the same machine, each with its own store on the same disk, with RUN on the host's network. Figures are medians.
Processor time counts every process, a daemon's too; memory is the largest of any one process. The ratio is how many times as long as nacre
the builder takes; the goal is the ratio the design asks for.
`

// writeSection puts a workload's tables into the page, in place of what an earlier run said of it.
func writeSection(page, name, tables string) error {
	text, err := os.ReadFile(page)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = []byte(pageHead), nil
	}
	if err != nil {
		return err
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->\n"
	section := begin + tables + end
	if i, j := bytes.Index(text, []byte(begin)), bytes.Index(text, []byte(end)); i >= 0 && j > i {
		text = append(append(text[:i:i], section...), text[j+len(end):]...)
	} else {
		text = append(append(text, '\n'), section...)
	}
	return os.WriteFile(page, text, 0o644)
}

func (r results) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n%s, %d processors, %s; %d rounds.\n", r.workload.name, time.Now().Format("2 January 2006"), runtime.NumCPU(), kernel(), r.rounds)
	for c, info := range r.workload.cases {
		fmt.Fprintf(&b, "\n| %s | elapsed | processor | memory | ratio | goal |\n|---|--:|--:|--:|--:|--:|\n", info.title)
		for _, l := range r.lines(c) {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", l.builder, l.wall, l.cpu, l.rss, l.ratio, l.goal)
		}
	}
	b.WriteByte('\n')
	return b.String()
}

func kernel() string {
	data, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	version, _, _ := strings.Cut(strings.TrimSpace(string(data)), "-")
	return "Linux " + version
}
