package main

import (
	"fmt"
	"os"
	"path/filepath"
)

const (
	w2Files = 50_000
	w2Bytes = 400_000_000
)

var w2 = workload{
	name: "W2", title: "W2: a large context",
	cases: []caseInfo{
		{
			title: "COPY of 50,000 files, 400 MB: cold", floor: "tar and sha256 on one thread",
			goal:  map[string]float64{"docker": 10.9, "buildah": 14.6, "podman": 15.2, "buildkit": 20},
			notes: []string{"docker keeps the layer as a folder and makes no tar of it before a push or save: like for like is the last table here."},
		},
		{
			title: "the same, nothing changed", floor: "walk and lstat on two threads",
			goal: map[string]float64{"docker": 6.5, "buildah": 69, "podman": 77, "buildkit": 8.5},
		},
		{
			title: "the same, one file changed", floor: "copy of the tar with sha256",
			goal: map[string]float64{"docker": 9.2, "buildah": 19, "podman": 20, "buildkit": 21.3},
		},
		{title: "push of that, gzip", floor: "gzip on all processors"},
		{title: "one file changed, built and pushed, gzip", floor: "copy with sha256, gzip on all processors", goal: fourfold},
	},
	prepare: prepareW2, round: roundW2, floor: floorW2,
}

// prepareW2 makes folders of 100 files. Sizes go from 1 to twice the mean, so that they
// add up to w2Bytes almost exactly; contents are not compressible.
func prepareW2(dir string) error {
	ready, done, err := prepared(dir)
	if err != nil || ready {
		return err
	}
	if err := write(dir, map[string]string{"Dockerfile": "FROM busybox\nCOPY . /src\n"}); err != nil {
		return err
	}
	if err := writeTree(filepath.Join(dir, "ctx"), scaled(w2Files), 2*w2Bytes/w2Files); err != nil {
		return err
	}
	return done()
}

// writeTree makes n files of up to most bytes, 100 in a folder.
func writeTree(dir string, n, most int) error {
	noise := newNoise(2)
	buf := make([]byte, most)
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprintf("%03d", i/100))
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
	return nil
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

func roundW2(dir string, b builder, round int) ([]cost, error) {
	if err := b.reset(); err != nil {
		return nil, err
	}
	var costs []cost
	for _, change := range []bool{false, false, true} {
		if change {
			n := scaled(w2Files) / 2
			if err := alter(filepath.Join(dir, "ctx", fmt.Sprintf("%03d/file-%05d", n/100, n))); err != nil {
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
	pushed, err := b.push("w2", hub.name("w2", b, round))
	return append(costs, pushed, costs[2].and(pushed)), err
}

func floorW2(dir string, _ int) ([]cost, error) {
	ctx, first, second := dir+"/ctx", dir+"/floor-1.tar", dir+"/floor-2.tar"
	defer os.Remove(first)
	defer os.Remove(second)
	settle()
	var costs []cost
	for _, args := range [][]string{{"tarsum", ctx, first}, {"walk", ctx}, {"copysum", first, second}, {"gzip", ctx}} {
		c, err := floorOf(args...)
		if err != nil {
			return nil, err
		}
		costs = append(costs, c)
	}
	return append(costs, costs[2].and(costs[3])), nil
}
