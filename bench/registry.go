package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// R measures registries by what their processes use: a client's share of the two
// processors says nothing about the server.
const registryWorkload = "R"

// registryCase is one measurement of a server. It returns by how many requests the server's
// time is to be divided; 1 for a transfer as a whole.
type registryCase struct {
	title string
	goal  float64 // how many times as much of the processor docker-registry is to use
	run   func(*server) (requests int, err error)
}

// prepare makes the layers to push, once.
func prepareRegistries() {
	for i := range 5 {
		content("big", 50+i, scaled(bigLayer))
	}
	for i := range 100 {
		content("small", 1000+i, 10_000)
	}
}

var registryCases = []registryCase{
	{"push of 5 layers of 100 MB", 2, pushOf("big", 5, bigLayer)},
	{"pull of 5 layers of 100 MB", 0, pullOf("big")},
	{"push of 100 layers of 10 KB", 0, pushOf("small", 100, 10_000)},
	{"pull of 100 layers of 10 KB", 0, pullOf("small")},
	{"GET of a manifest by tag", 14.6, wrk("/v2/bench/small/manifests/latest")},
	{"GET of tags/list", 0, wrk("/v2/bench/small/tags/list")},
	{"GET of a blob of 10 KB", 0, wrk("/v2/bench/small/blobs/" + digestOf(noiseOf(1000, 10_000)))},
}

// registryRow is one server. A cost's memory is since the server's start.
type registryRow struct {
	server *server
	costs  [][]cost // by case, then by round
}

// measureRegistries runs all rounds, each with fresh servers in turns.
func measureRegistries(o options) ([]registryRow, error) {
	if _, err := exec.LookPath("wrk"); err != nil && scale == 1 {
		return nil, fmt.Errorf("wrk is not installed: scripts/setup tools bench does it: %w", err)
	}
	prepareRegistries()
	var rows []registryRow
	for _, s := range servers(o) {
		rows = append(rows, registryRow{s, make([][]cost, len(registryCases))})
	}
	for round := range o.roundsOf(registryWorkload) {
		for i := range rows {
			i := (i + round) % len(rows)
			fmt.Fprintf(os.Stderr, "R round %d of %d: %s\n", round+1, o.roundsOf(registryWorkload), rows[i].server.name)
			if err := rows[i].measure(o); err != nil {
				return nil, fmt.Errorf("%s: %w", rows[i].server.name, err)
			}
		}
	}
	return rows, nil
}

func (r registryRow) measure(o options) error {
	dir, err := os.MkdirTemp(o.dir, "registry-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := r.server.start(filepath.Join(dir, "registry")); err != nil {
		return err
	}
	defer r.server.stop()
	for i, c := range registryCases {
		settle()
		before, _, err := r.server.usage()
		if err != nil {
			return err
		}
		begin := time.Now()
		n, err := c.run(r.server)
		if err != nil {
			return fmt.Errorf("%s: %w", c.title, err)
		}
		wall := time.Since(begin)
		after, peak, err := r.server.usage()
		if err != nil {
			return err
		}
		r.costs[i] = append(r.costs[i], cost{wall: wall / time.Duration(n), cpu: (after - before) / time.Duration(n), rss: peak})
	}
	return nil
}

// pushOf uploads layers that do not compress as docker does, five at a time, and then the manifest that
// names them.
func pushOf(repo string, layers, size int) func(*server) (int, error) {
	return func(s *server) (int, error) {
		if size == bigLayer {
			size = scaled(size)
		}
		var g errgroup.Group
		g.SetLimit(5)
		descs := make([]string, layers)
		for i := range layers {
			data := content(repo, layers*10+i, size)
			descs[i] = fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%s","size":%d}`, data.digest, size)
			g.Go(func() error { return s.upload("bench/"+repo, data) })
		}
		if err := g.Wait(); err != nil {
			return 0, err
		}
		config := newBlob([]byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
		if err := s.upload("bench/"+repo, config); err != nil {
			return 0, err
		}
		manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d},"layers":[%s]}`,
			manifestType, config.digest, len(config.data), strings.Join(descs, ","))
		_, err := s.do("PUT", s.url+"/v2/bench/"+repo+"/manifests/latest", manifestType, []byte(manifest), http.StatusCreated)
		return 1, err
	}
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

// upload is POST, PATCH, PUT.
func (s *server) upload(repo string, b blob) error {
	place, err := s.do("POST", s.url+"/v2/"+repo+"/blobs/uploads/", "", nil, http.StatusAccepted)
	if err != nil {
		return err
	}
	if place, err = s.do("PATCH", place, "application/octet-stream", b.data, http.StatusAccepted); err != nil {
		return err
	}
	sep := "?"
	if strings.Contains(place, "?") {
		sep = "&"
	}
	_, err = s.do("PUT", place+sep+"digest="+b.digest, "", nil, http.StatusCreated)
	return err
}

// do makes a request and returns where the answer points to.
func (s *server) do(method, url, contentType string, body []byte, want int) (location string, err error) {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
	if resp.StatusCode != want {
		return "", fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, text)
	}
	location = resp.Header.Get("Location")
	if strings.HasPrefix(location, "/") {
		location = s.url + location
	}
	return location, nil
}

// pullOf reads the manifest and then its layers, five at a time.
func pullOf(repo string) func(*server) (int, error) {
	return func(s *server) (int, error) {
		manifest, err := get(s.url + "/v2/bench/" + repo + "/manifests/latest")
		if err != nil {
			return 0, err
		}
		var g errgroup.Group
		g.SetLimit(5)
		for _, part := range strings.Split(string(manifest), `"digest":"`)[1:] {
			digest, _, _ := strings.Cut(part, `"`)
			g.Go(func() error { return discard(s.url + "/v2/bench/" + repo + "/blobs/" + digest) })
		}
		return 1, g.Wait()
	}
}

func get(url string) ([]byte, error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", manifestType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

func discard(url string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// wrk asks for one path over 32 connections for three seconds. To try the workload, a few requests do.
func wrk(path string) func(*server) (int, error) {
	return func(s *server) (int, error) {
		if scale < 1 {
			for range 10 {
				if _, err := get(s.url + path); err != nil {
					return 0, err
				}
			}
			return 10, nil
		}
		cmd := exec.Command("wrk", "-t1", "-c32", "-d3s", "-H", "Accept: "+manifestType, s.url+path)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
		if strings.Contains(string(out), "Non-2xx") {
			return 0, fmt.Errorf("wrk %s: %s", path, out)
		}
		for line := range strings.Lines(string(out)) {
			if n, _, ok := strings.Cut(strings.TrimSpace(line), " requests in "); ok {
				return strconv.Atoi(n)
			}
		}
		return 0, fmt.Errorf("wrk says nothing of requests: %s", out)
	}
}

// blob is content made before the clock runs.
type blob struct {
	data   []byte
	digest string
}

func newBlob(data []byte) blob { return blob{data, digestOf(data)} }

// made are the blobs of all rounds.
var made = map[string]blob{}

func content(repo string, seed, size int) blob {
	key := fmt.Sprint(repo, seed)
	if _, ok := made[key]; !ok {
		made[key] = newBlob(noiseOf(seed, size))
	}
	return made[key]
}

func noiseOf(seed, size int) []byte {
	data := make([]byte, size)
	newNoise(uint64(seed)).fill(data)
	return data
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// registryTable is what was found, one table for all cases.
func registryTable(rows []registryRow, rounds int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s; medians of %d rounds. Processor time of the server's process, by request where there are many; "+
		"memory is its largest since the start. The ratio is of processor time.\n",
		machine(), rounds)
	b.WriteString("\n| | | processor | elapsed | memory | ratio | goal |\n|---|---|--:|--:|--:|--:|--:|\n")
	for i, c := range registryCases {
		cpu := func(r registryRow) time.Duration {
			return median(r.costs[i], func(x cost) time.Duration { return x.cpu })
		}
		for j, r := range rows {
			ratio, goal := "", ""
			if j > 0 {
				ratio = fmt.Sprintf("%.1f×", float64(cpu(r))/float64(cpu(rows[0])))
				if c.goal > 0 {
					goal = fmt.Sprintf("%.1f×", c.goal)
				}
			}
			title := c.title
			if j > 0 {
				title = ""
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %d MB | %s | %s |\n", title, strings.TrimSpace(r.server.name+" "+r.server.version),
				short(cpu(r)), short(median(r.costs[i], func(x cost) time.Duration { return x.wall })),
				median(r.costs[i], func(x cost) int64 { return x.rss })/1e6, ratio, goal)
		}
	}
	return b.String()
}

// short prints seconds for transfers and microseconds for requests.
func short(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.0f µs", float64(d)/1e3)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}
