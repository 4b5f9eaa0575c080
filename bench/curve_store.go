package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

var imagesCurve = curve{
	name: "images", title: "Images in the store", axis: "images",
	points: []int{1, 10, 100, 1_000, 10_000},
	works: []string{
		"load of all from an OCI layout", "images", "images of one name", "build of another", "build, nothing changed", "tag", "inspect",
		"rmi of one", "system df", "image prune", "builder prune", "system prune", "image prune --all",
	},
	note: "Ten images share a layer.",
	run: func(p *site, n int) ([]cost, error) {
		archive := filepath.Join(filepath.Dir(p.dir), "images.tar")
		file, err := p.dockerfile("Dockerfile", "FROM busybox", "COPY f /f", "RUN cat /f > /g")
		var s series
		s.do(errors.Join(err, writeImages(archive, n), write(p.dir, map[string]string{"f": "f"})))
		settle()
		do := func(args ...string) func() (cost, error) { return func() (cost, error) { return p.nacre.do(args...) } }
		s.take(do("load", "-q", "-i", archive))
		s.takeMedian(do("images"))
		s.takeMedian(do("images", imageName(n-1)))
		s.take(do("build", "-t", "new", "-f", file, p.dir))
		s.takeMedian(do("build", "-t", "new", "-f", file, p.dir))
		s.takeMedian(do("tag", imageName(n-1), "example.com/other:1"))
		s.takeMedian(do("inspect", imageName(n-1)))
		s.do(quiet(p.cmd("rmi", "example.com/other:1").Args...))
		s.take(do("rmi", imageName(n-1)))
		s.takeMedian(do("system", "df"))
		s.take(do("image", "prune", "-f"))
		s.take(do("builder", "prune", "-f"))
		s.take(do("system", "prune", "-f"))
		s.take(do("image", "prune", "--all", "-f"))
		return s.costs, s.err
	},
}

func imageName(i int) string { return fmt.Sprintf("example.com/app%d:v%d", i/10, i%10) }

// writeImages writes an OCI layout of n images, as a tar.
func writeImages(file string, n int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	l := layoutWriter{tar: tar.NewWriter(f), seen: map[string]bool{}}
	l.add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	var names []string
	for i := range n {
		names = append(names, l.image(i))
	}
	l.add("index.json", fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}`, strings.Join(names, ",")))
	return errors.Join(l.err, l.tar.Close(), f.Close())
}

// layoutWriter writes files into a tar, each once.
type layoutWriter struct {
	tar  *tar.Writer
	seen map[string]bool
	err  error
}

func (l *layoutWriter) add(name string, data []byte) {
	if l.err != nil || l.seen[name] {
		return
	}
	l.seen[name] = true
	if l.err = l.tar.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644}); l.err == nil {
		_, l.err = l.tar.Write(data)
	}
}

// blob adds data and returns a descriptor of it, open at the end.
func (l *layoutWriter) blob(mediaType string, data []byte) string {
	sum := sha256.Sum256(data)
	l.add(fmt.Sprintf("blobs/sha256/%x", sum), data)
	return fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%x","size":%d`, mediaType, sum, len(data))
}

// image adds one and returns its entry in the index.
func (l *layoutWriter) image(i int) string {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	content := fmt.Sprint("layer ", i/10)
	l.err = errors.Join(l.err, t.WriteHeader(&tar.Header{Name: "f", Size: int64(len(content)), Mode: 0o644}))
	_, err := io.WriteString(t, content)
	l.err = errors.Join(l.err, err, t.Close())
	layer := l.blob("layer.v1.tar", b.Bytes()) + "}"
	config := l.blob("config.v1+json", fmt.Appendf(nil,
		`{"architecture":"amd64","os":"linux","config":{"Labels":{"n":"%d"}},"rootfs":{"type":"layers","diff_ids":["sha256:%x"]},"history":[{"created_by":"bench"}]}`,
		i, sha256.Sum256(b.Bytes()))) + "}"
	manifest := l.blob("manifest.v1+json", fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[%s]}`, manifestType, config, layer))
	return manifest + fmt.Sprintf(`,"annotations":{"io.containerd.image.name":"%s"}}`, imageName(i))
}

var tagsCurve = curve{
	name: "tags", title: "Tags of a repository that is served", axis: "tags",
	points: []int{1, 10, 100, 1_000},
	works:  []string{"PUT of all, each of another image", "tags/list, a hundred", "tags/list, all", "GET of a manifest by tag", "PUT of one more", "DELETE of one"},
	note:   "Of the server's process; all but the first are of one request, the mean of twenty.",
	run: func(p *site, n int) ([]cost, error) {
		srv := servers(options{nacre: program})[0]
		if err := srv.start(filepath.Join(filepath.Dir(p.dir), "served")); err != nil {
			return nil, err
		}
		defer srv.stop()
		repo := srv.url + "/v2/bench/tags"
		put := func(i int) error {
			config := newBlob(fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{"Labels":{"n":"%d"}}}`, i))
			if err := srv.upload("bench/tags", config); err != nil {
				return err
			}
			manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d},"layers":[]}`,
				manifestType, config.digest, len(config.data))
			_, err := srv.do("PUT", fmt.Sprintf("%s/manifests/v%d", repo, i), manifestType, []byte(manifest), http.StatusCreated)
			return err
		}
		read := func(path string) func(int) error {
			return func(int) error { _, err := get(repo + path); return err }
		}
		var s series
		s.take(func() (cost, error) { return srv.requests(n, 1, put) })
		s.take(func() (cost, error) { return srv.requests(20, 20, read("/tags/list?n=100")) })
		s.take(func() (cost, error) { return srv.requests(20, 20, read("/tags/list")) })
		s.take(func() (cost, error) { return srv.requests(20, 20, read(fmt.Sprintf("/manifests/v%d", n/2))) })
		s.take(func() (cost, error) { return srv.requests(20, 20, func(i int) error { return put(n + i) }) })
		s.take(func() (cost, error) {
			return srv.requests(20, 20, func(i int) error {
				_, err := srv.do("DELETE", fmt.Sprintf("%s/manifests/v%d", repo, n+i), "", nil, http.StatusAccepted)
				return err
			})
		})
		return s.costs, s.err
	},
}

// requests makes n of them and returns what the server took, divided by parts.
func (s *server) requests(n, parts int, one func(i int) error) (cost, error) {
	before, _, err := s.usage()
	if err != nil {
		return cost{}, err
	}
	begin := time.Now()
	for i := range n {
		if err := one(i); err != nil {
			return cost{}, err
		}
	}
	wall := time.Since(begin)
	after, peak, err := s.usage()
	return cost{wall: wall / time.Duration(parts), cpu: (after - before) / time.Duration(parts), rss: peak}, err
}
