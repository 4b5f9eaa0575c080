package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	w4Files = 20_000
	w4Bytes = 500_000_000
)

var w4 = workload{
	name: "W4", title: "W4 and W7: a step that writes much, and its push", also: []string{"W7"},
	cases: []caseInfo{
		{
			title: "W4: one RUN writing 20,000 files, 500 MB", floor: "the same program by itself, sha256 of what it wrote",
			goal:  map[string]float64{"docker": 2.3, "buildah": 4.8, "podman": 4.8, "buildkit": 12},
			notes: []string{"docker keeps the layer as a folder and makes no tar of it before a push or save: like for like is \"build and push\"."},
		},
		{
			title: "W7: push of that layer, gzip", floor: "gzip on all processors",
			goal: map[string]float64{"docker": 7.3, "buildah": 1.95, "podman": 1.9, "buildkit": 6.8},
		},
		{
			title: "W7: build and push", floor: "write, sha256, gzip",
			goal: map[string]float64{"docker": 6.4, "buildah": 3.1, "podman": 3.1, "buildkit": 5.5},
		},
	},
	prepare: prepareW4, round: roundW4, floor: floorW4,
}

func prepareW4(dir string) error {
	err := write(dir, map[string]string{
		"base.Dockerfile": "FROM busybox\nCOPY writer /writer\n",
		"Dockerfile":      fmt.Sprintf("FROM w4base\nRUN [\"/writer\", \"/data\", \"%d\", \"%d\"]\n", scaled(w4Files), scaled(w4Bytes)),
		"ctx/empty":       "",
	})
	if err != nil {
		return err
	}
	_, err = buildTool(filepath.Join(dir, "ctx"), "writer")
	return err
}

// roundW4 gives the program that writes to a base image first, unmeasured. The push is to another
// repository every time, so that nothing of it is there.
func roundW4(dir string, b builder, round int) ([]cost, error) {
	if err := b.reset(); err != nil {
		return nil, err
	}
	if err := b.base(dir+"/ctx", dir+"/base.Dockerfile", "w4base"); err != nil {
		return nil, err
	}
	settle()
	built, err := b.build(dir+"/ctx", dir+"/Dockerfile", "w4")
	if err != nil {
		return nil, err
	}
	pushed, err := b.push("w4", hub.name("w4", b, round))
	return []cost{built, pushed, built.and(pushed)}, err
}

func floorW4(dir string, _ int) ([]cost, error) {
	data, err := os.MkdirTemp(dir, "floor-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(data)
	settle()
	wrote, err := measure(exec.Command(dir+"/ctx/writer", data, fmt.Sprint(scaled(w4Files)), fmt.Sprint(scaled(w4Bytes))), 0)
	if err != nil {
		return nil, err
	}
	summed, err := floorOf("sum", data)
	packed, err2 := floorOf("gzip", data)
	built := wrote.and(summed)
	return []cost{built, packed, built.and(packed)}, errors.Join(err, err2)
}
