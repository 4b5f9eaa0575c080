package main

import (
	"os"
	"path/filepath"
)

var w8 = workload{
	name: "W8", title: "W8: apt",
	cases: []caseInfo{{
		title: "apt-get update and install of nginx on Debian", floor: "the same in a folder, with chroot",
	}},
	prepare: func(dir string) error {
		return write(dir, map[string]string{"Dockerfile": "FROM debian\nRUN " + aptScript() + "\n", "ctx/empty": ""})
	},
	round: roundW8, floor: floorW8,
}

func aptScript() string {
	if scale < 1 {
		return "ls /" // to try the workload takes no network
	}
	return "apt-get update && apt-get install -y --no-install-recommends nginx"
}

// debianBase is what is called debian: to try a workload, something smaller.
func debianBase() (string, error) {
	if scale < 1 {
		return busybox, nil
	}
	return base("debian")
}

func roundW8(dir string, b builder, _ int) ([]cost, error) {
	if err := b.reset(); err != nil {
		return nil, err
	}
	debian, err := debianBase()
	if err != nil {
		return nil, err
	}
	if err := b.add(debian, "debian"); err != nil {
		return nil, err
	}
	settle()
	c, err := b.build(dir+"/ctx", dir+"/Dockerfile", "w8")
	return []cost{c}, err
}

func floorW8(dir string, _ int) ([]cost, error) {
	debian, err := debianBase()
	if err != nil {
		return nil, err
	}
	root, err := os.MkdirTemp(dir, "floor-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(root)
	if err := quiet("tar", "-xf", debian, "-C", root); err != nil {
		return nil, err
	}
	settle()
	c, err := floorOf("chroot", filepath.Clean(root), aptScript())
	return []cost{c}, err
}
