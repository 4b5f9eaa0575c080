package metrics

import (
	"strconv"
	"strings"
	"sync"
	"testing"
)

func TestText(t *testing.T) {
	var s Set
	c := s.NewCounter("requests_total", "Requests.", "method", "status")
	h := s.NewHistogram("seconds", "Time.", []float64{0.1, 1}, "kind")
	s.NewGauge("up", "Up.", func() float64 { return 1.5 })
	s.NewGauges("waiting", "Waiting.", "endpoint", map[string]func() float64{"b": func() float64 { return 2 }, "a": func() float64 { return 1 }})
	plain := s.NewCounter("plain_total", "Plain.")
	plain.Add(7)
	c.Add(1, "GET", "200")
	c.Add(2, "GET", "200")
	c.Add(1, `a"b\`+"\n", "1")
	for _, v := range []float64{0.05, 0.1, 0.5, 5} {
		h.Observe(v, "x")
	}
	var b strings.Builder
	n, err := s.WriteTo(&b)
	want := `# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{method="GET",status="200"} 3
requests_total{method="a\"b\\\n",status="1"} 1
# HELP seconds Time.
# TYPE seconds histogram
seconds_bucket{kind="x",le="0.1"} 2
seconds_bucket{kind="x",le="1"} 3
seconds_bucket{kind="x",le="+Inf"} 4
seconds_sum{kind="x"} 5.65
seconds_count{kind="x"} 4
# HELP up Up.
# TYPE up gauge
up 1.5
# HELP waiting Waiting.
# TYPE waiting gauge
waiting{endpoint="a"} 1
waiting{endpoint="b"} 2
# HELP plain_total Plain.
# TYPE plain_total counter
plain_total 7
`
	if got := b.String(); got != want || err != nil || n != int64(len(want)) {
		t.Errorf("got %d, %v\n%s", n, err, got)
	}
}

func TestConcurrentAndBounded(t *testing.T) {
	var s Set
	c := s.NewCounter("c", "C.", "l")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				c.Add(1, strconv.Itoa(i*500+j))
				c.Add(1, "0")
			}
		})
	}
	wg.Wait()
	var b strings.Builder
	s.WriteTo(&b)
	if n := strings.Count(b.String(), "\n"); n > maxSeries+4 {
		t.Errorf("%d series", n)
	}
	total := 0
	for line := range strings.Lines(b.String()) {
		if _, v, ok := strings.Cut(line, "} "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			total += n
		}
	}
	if total != 8000 {
		t.Errorf("%d were counted", total)
	}
}
