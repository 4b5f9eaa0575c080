// Package metrics counts, and writes what it counted in the text format of Prometheus
// (https://prometheus.io/docs/instrumenting/exposition_formats/). It is our own since the
// libraries for it cost every start of the program more than the rest of the server does.
package metrics

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Set is a group of metrics that are written together. The zero Set is empty.
type Set struct {
	mu  sync.Mutex
	all []metric
}

type metric interface {
	write(w *bufio.Writer)
}

func (s *Set) add(m metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, m)
}

// WriteTo writes all metrics, in the order they were made, each with its values in
// order of labels.
func (s *Set) WriteTo(w io.Writer) (int64, error) {
	s.mu.Lock()
	all := slices.Clone(s.all)
	s.mu.Unlock()
	c := &counter{w: w}
	b := bufio.NewWriter(c)
	for _, m := range all {
		m.write(b)
	}
	err := b.Flush()
	return c.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// head is what all kinds of metrics have: what they are called, and a value for each
// combination of labels.
type head[T any] struct {
	name, help, kind string
	labels           []string

	mu     sync.RWMutex
	values map[string]*T
}

// maxSeries bounds the combinations of one metric: what is beyond is counted as "other".
const maxSeries = 1000

// at is the value of a combination, made with make if need be.
func (h *head[T]) at(values []string, make func() *T) *T {
	if len(values) != len(h.labels) {
		panic(fmt.Sprintf("metrics: %s has %d labels, not %d", h.name, len(h.labels), len(values)))
	}
	key := h.key(values)
	h.mu.RLock()
	v := h.values[key]
	h.mu.RUnlock()
	if v != nil {
		return v
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.values) >= maxSeries {
		other := slices.Repeat([]string{"other"}, len(values))
		key = h.key(other)
	}
	if v = h.values[key]; v == nil {
		v = make()
		if h.values == nil {
			h.values = map[string]*T{}
		}
		h.values[key] = v
	}
	return v
}

// escape writes a value between quotation marks. It is built when first used, and every request uses it.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// key is a combination as it is written: method="GET",status="200".
func (h *head[T]) key(values []string) string {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(h.labels[i])
		b.WriteString(`="`)
		b.WriteString(escape.Replace(v))
		b.WriteByte('"')
	}
	return b.String()
}

// each calls f for every combination, in order.
func (h *head[T]) each(w *bufio.Writer, f func(labels string, v *T)) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", h.name, h.help, h.name, h.kind)
	h.mu.RLock()
	defer h.mu.RUnlock()
	keys := make([]string, 0, len(h.values))
	for k := range h.values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		f(k, h.values[k])
	}
}

func braces(labels string) string {
	if labels == "" {
		return ""
	}
	return "{" + labels + "}"
}

// Counter goes up.
type Counter struct{ head[atomic.Int64] }

// NewCounter makes a counter.
func (s *Set) NewCounter(name, help string, labels ...string) *Counter {
	c := &Counter{head[atomic.Int64]{name: name, help: help, kind: "counter", labels: labels}}
	s.add(c)
	return c
}

// Add counts n of a combination.
func (c *Counter) Add(n int64, values ...string) {
	c.at(values, func() *atomic.Int64 { return new(atomic.Int64) }).Add(n)
}

func (c *Counter) write(w *bufio.Writer) {
	c.each(w, func(labels string, v *atomic.Int64) {
		fmt.Fprintf(w, "%s%s %d\n", c.name, braces(labels), v.Load())
	})
}

// gauge is asked for its values when it is written.
type gauge struct {
	head[func() float64]
}

// NewGauge makes a gauge that has the value of f, for each value of its one label where
// there is one.
func (s *Set) NewGauge(name, help string, f func() float64) {
	s.NewGauges(name, help, "", map[string]func() float64{"": f})
}

// NewGauges makes a gauge with one label, and a function for each of its values.
func (s *Set) NewGauges(name, help, label string, byValue map[string]func() float64) {
	g := &gauge{head[func() float64]{name: name, help: help, kind: "gauge"}}
	if label != "" {
		g.labels = []string{label}
	}
	for v, f := range byValue {
		values := []string{v}
		if label == "" {
			values = nil
		}
		g.at(values, func() *func() float64 { return &f })
	}
	s.add(g)
}

func (g *gauge) write(w *bufio.Writer) {
	g.each(w, func(labels string, f *func() float64) {
		fmt.Fprintf(w, "%s%s %s\n", g.name, braces(labels), number((*f)()))
	})
}

func number(f float64) string {
	if math.IsInf(f, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// Histogram counts how often values were at most each of some bounds.
type Histogram struct {
	head[buckets]
	bounds []float64
}

type buckets struct {
	counts []atomic.Int64 // by bound, and one for what is above all
	sum    atomic.Uint64  // bits of a float64
}

// NewHistogram makes a histogram of values with these bounds, which ascend.
func (s *Set) NewHistogram(name, help string, bounds []float64, labels ...string) *Histogram {
	h := &Histogram{head[buckets]{name: name, help: help, kind: "histogram", labels: labels}, bounds}
	s.add(h)
	return h
}

// Observe counts v.
func (h *Histogram) Observe(v float64, values ...string) {
	b := h.at(values, func() *buckets { return &buckets{counts: make([]atomic.Int64, len(h.bounds)+1)} })
	i, _ := slices.BinarySearch(h.bounds, v)
	b.counts[i].Add(1)
	for {
		old := b.sum.Load()
		if b.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

func (h *Histogram) write(w *bufio.Writer) {
	h.each(w, func(labels string, b *buckets) {
		total := int64(0)
		comma := ""
		if labels != "" {
			comma = ","
		}
		for i := range b.counts {
			total += b.counts[i].Load()
			bound := math.Inf(1)
			if i < len(h.bounds) {
				bound = h.bounds[i]
			}
			fmt.Fprintf(w, "%s_bucket{%s%sle=%q} %d\n", h.name, labels, comma, number(bound), total)
		}
		fmt.Fprintf(w, "%s_sum%s %s\n%s_count%s %d\n", h.name, braces(labels), number(math.Float64frombits(b.sum.Load())), h.name, braces(labels), total)
	})
}
