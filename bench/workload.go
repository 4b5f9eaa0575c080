package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// workload is one kind of build. Its prepare makes the context, the same on every
// machine; round takes all measurements of one round with one builder, in the order of cases.
type workload struct {
	name    string
	cases   []caseInfo
	prepare func(dir string) error
	round   func(dir string, b builder, round int) ([]cost, error)
}

// caseInfo is one measurement and what it ought to come to: how many times as fast as
// each peer nacre is to be (the goals of the design, measured on its reference machine).
type caseInfo struct {
	title string
	goal  map[string]float64
}

var workloads = []workload{
	{"W1", []caseInfo{{"fully cached rebuild, small multi-step Dockerfile", map[string]float64{"docker": 4, "buildah": 39, "podman": 48}}}, prepareW1, roundW1},
	{"W2", []caseInfo{
		{"COPY of 50,000 files, 400 MB: cold", map[string]float64{"docker": 10.9, "buildah": 14.6, "podman": 15.2}},
		{"the same, nothing changed", map[string]float64{"docker": 6.5, "buildah": 69, "podman": 77}},
		{"the same, one file changed", map[string]float64{"docker": 9.2, "buildah": 19, "podman": 20}},
	}, prepareW2, roundW2},
	{"W3", []caseInfo{{"twenty times RUN true, cold", map[string]float64{"docker": 10, "buildah": 36, "podman": 43}}}, prepareW3, roundCold},
	{"W4", []caseInfo{{"one RUN writing 20,000 files, 500 MB", map[string]float64{"docker": 2.3, "buildah": 4.8, "podman": 4.8}}}, prepareW4, roundW4},
	{"W5", []caseInfo{{"four stages of sleep 2, COPY from each", map[string]float64{"docker": 1.11, "buildah": 1.48, "podman": 1.62}}}, prepareW5, roundCold},
	{"W6", []caseInfo{
		{"pull of Debian, one layer of 122 MB, ready to run", map[string]float64{"docker": 1.9, "buildah": 2.3, "podman": 2.3}},
		{"pull of ten layers of 100 MB, ready to run", map[string]float64{"docker": 3.8, "buildah": 4.1, "podman": 4.1}},
	}, prepareW6, roundW6},
	{"W7", []caseInfo{
		{"push of a built layer of 500 MB, 20,000 files", map[string]float64{"docker": 7.3, "buildah": 1.95, "podman": 1.9}},
		{"the same, build and push", map[string]float64{"docker": 6.4, "buildah": 3.1, "podman": 3.1}},
	}, prepareW7, roundW7},
	{"W8", []caseInfo{{"apt-get update and install of nginx on Debian", nil}}, prepareW8, roundW8},
	{"W9", []caseInfo{{"save of a built image of ten layers of 100 MB", nil}}, prepareW9, roundW9},
}

// measure runs all rounds. Builders take turns, and who begins changes.
func (w workload) measure(o options, builders []builder) (results, error) {
	dir := filepath.Join(o.dir, w.name)
	if err := w.prepare(dir); err != nil {
		return results{}, err
	}
	r := results{workload: w, rounds: o.rounds}
	for _, b := range builders {
		r.rows = append(r.rows, row{name: b.name(), version: b.version(), costs: make([][]cost, len(w.cases))})
	}
	for round := range o.rounds {
		for i := range builders {
			i := (i + round) % len(builders)
			fmt.Fprintf(os.Stderr, "%s round %d of %d: %s\n", w.name, round+1, o.rounds, builders[i].name())
			costs, err := w.round(dir, builders[i], round)
			if err != nil {
				return r, err
			}
			for c := range costs {
				r.rows[i].costs[c] = append(r.rows[i].costs[c], costs[c])
			}
		}
	}
	return r, nil
}

// settle waits until what went before is on disk, so that nobody pays for another's writes.
func settle() { syscall.Sync() }

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

func prepareW1(dir string) error {
	files := map[string]string{"Dockerfile": `FROM busybox AS build
ARG VERSION=1
WORKDIR /src
COPY package.list ./
RUN wc -l package.list > /installed
COPY . .
RUN cat src/* > /program && echo $VERSION >> /program
FROM busybox
RUN echo app:x:1000:1000::/srv:/bin/sh >> /etc/passwd
WORKDIR /srv
COPY --from=build --chown=app /program /srv/program
COPY static static
ENV PORT=8080 MODE=production
EXPOSE 8080
USER app
CMD ["cat", "/srv/program"]
`, "ctx/package.list": "a\nb\n"}
	for i := range 40 {
		files[fmt.Sprintf("ctx/src/%d", i)] = strings.Repeat(fmt.Sprintln("line", i), 100)
		files[fmt.Sprintf("ctx/static/%d", i)] = strings.Repeat(fmt.Sprintln("page", i), 100)
	}
	return write(dir, files)
}

func roundW1(dir string, b builder, round int) ([]cost, error) {
	if round == 0 {
		if err := b.reset(); err != nil {
			return nil, err
		}
	}
	if _, err := b.build(dir+"/ctx", dir+"/Dockerfile", "w1"); err != nil {
		return nil, err
	}
	settle()
	c, err := b.build(dir+"/ctx", dir+"/Dockerfile", "w1")
	return []cost{c}, err
}

const (
	w2Files = 50_000
	w2Bytes = 400_000_000
)

// prepareW2 makes 500 folders of 100 files. Sizes go from 1 to twice the mean, so that they
// add up to w2Bytes almost exactly; contents are not compressible.
func prepareW2(dir string) error {
	done := filepath.Join(dir, "done-1")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := write(dir, map[string]string{"Dockerfile": "FROM busybox\nCOPY . /src\n"}); err != nil {
		return err
	}
	noise := newNoise(2)
	buf := make([]byte, 2*w2Bytes/w2Files)
	for i := range w2Files {
		sub := filepath.Join(dir, "ctx", fmt.Sprintf("%03d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		content := buf[:1+(i*7919)%(len(buf)-1)]
		noise.fill(content)
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file-%05d", i)), content, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(done, nil, 0o644)
}

// alter gives a file another content of the same size than it has, whoever built it last.
func alter(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	content[0]++
	return os.WriteFile(file, content, 0o644)
}

func roundW2(dir string, b builder, _ int) ([]cost, error) {
	if err := b.reset(); err != nil {
		return nil, err
	}
	var costs []cost
	for _, change := range []bool{false, false, true} {
		if change {
			if err := alter(filepath.Join(dir, "ctx/250/file-25050")); err != nil {
				return nil, err
			}
		}
		settle()
		c, err := b.build(dir+"/ctx", dir+"/Dockerfile", "w2")
		if err != nil {
			return nil, err
		}
		costs = append(costs, c)
	}
	return costs, nil
}

func prepareW3(dir string) error {
	return write(dir, map[string]string{"Dockerfile": "FROM busybox\n" + strings.Repeat("RUN true\n", 20), "ctx/empty": ""})
}

func roundCold(dir string, b builder, _ int) ([]cost, error) {
	if err := b.reset(); err != nil {
		return nil, err
	}
	settle()
	c, err := b.build(dir+"/ctx", dir+"/Dockerfile", "cold")
	return []cost{c}, err
}

func prepareW5(dir string) error {
	text := ""
	for i := range 4 {
		text += fmt.Sprintf("FROM busybox AS s%d\nRUN sleep 2 && echo %d > /out%d\n", i, i, i)
	}
	text += "FROM busybox\n"
	for i := range 4 {
		text += fmt.Sprintf("COPY --from=s%d /out%d /\n", i, i)
	}
	return write(dir, map[string]string{"Dockerfile": text, "ctx/empty": ""})
}

func prepareW8(dir string) error {
	return write(dir, map[string]string{
		"Dockerfile": "FROM debian\nRUN apt-get update && apt-get install -y --no-install-recommends nginx\n",
		"ctx/empty":  "",
	})
}

func roundW8(dir string, b builder, _ int) ([]cost, error) {
	base, err := exec.Command("scripts/setup", "debian").Output()
	if err != nil {
		return nil, fmt.Errorf("scripts/setup debian: %w", err)
	}
	if err := b.reset(); err != nil {
		return nil, err
	}
	if err := b.add(strings.TrimSpace(string(base)), "debian"); err != nil {
		return nil, err
	}
	settle()
	c, err := b.build(dir+"/ctx", dir+"/Dockerfile", "w8")
	return []cost{c}, err
}

func prepareW4(dir string) error {
	err := write(dir, map[string]string{
		"base.Dockerfile": "FROM busybox\nCOPY writer /writer\n",
		"Dockerfile":      "FROM w4base\nRUN [\"/writer\", \"/data\", \"20000\", \"500000000\"]\n",
		"ctx/empty":       "",
	})
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/ctx/writer", "./bench/writer")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// roundW4 gives the program that writes to a base image first, unmeasured.
func roundW4(dir string, b builder, _ int) ([]cost, error) {
	if err := b.reset(); err != nil {
		return nil, err
	}
	if _, err := b.build(dir+"/ctx", dir+"/base.Dockerfile", "w4base"); err != nil {
		return nil, err
	}
	settle()
	c, err := b.build(dir+"/ctx", dir+"/Dockerfile", "w4")
	return []cost{c}, err
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

// median of one figure over all rounds.
func median[T ~int64](costs []cost, figure func(cost) T) T {
	var v []T
	for _, c := range costs {
		v = append(v, figure(c))
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
