// Bench measures whole builds, as a user starts them, by nacre and by the builders it is
// compared with, side by side in one run: absolute times move between machines, ratios
// hardly do. Rounds are interleaved, so that what happens to the machine happens to
// all, and medians are reported.
//
//	go run ./bench -nacre bin/nacre -w W3 -n 5
//
// It needs root, and writes what it found into docs/benchmarks.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	var o options
	var which, peers string
	flag.StringVar(&o.nacre, "nacre", "bin/nacre", "the nacre to measure")
	flag.StringVar(&which, "w", "all", "workloads, separated by commas: W1 to W9, R (registry servers) or all")
	flag.StringVar(&peers, "peers", "docker,buildah,podman", "builders to compare with, where installed")
	flag.IntVar(&o.rounds, "n", 5, "rounds; the median is reported")
	flag.StringVar(&o.dir, "dir", ".cache/bench", "where contexts are kept and stores made: a disk, not a tmpfs")
	flag.StringVar(&o.report, "report", "docs/benchmarks.md", "page to write the tables into; empty for none")
	flag.Parse()
	o.peers = strings.Split(peers, ",")
	o.workloads = strings.Split(strings.ToUpper(which), ",")
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	nacre, dir, report string
	peers, workloads   []string
	rounds             int
}

func run(o options) (err error) {
	if os.Getuid() != 0 {
		return errors.New("root is needed: the builders are compared with their full isolation")
	}
	if o.rounds < 1 {
		return errors.New("-n: at least one round")
	}
	if o.nacre, err = filepath.Abs(o.nacre); err != nil {
		return err
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	var chosen []workload
	for _, w := range workloads {
		if slices.Contains(o.workloads, "ALL") || slices.Contains(o.workloads, w.name) {
			chosen = append(chosen, w)
		}
	}
	registries := slices.Contains(o.workloads, "ALL") || slices.Contains(o.workloads, registryWorkload)
	if len(chosen) == 0 && !registries {
		return fmt.Errorf("-w %s: no such workload", strings.Join(o.workloads, ","))
	}
	if len(chosen) > 0 {
		if err := runBuilds(o, chosen); err != nil {
			return err
		}
	}
	if registries {
		return runRegistries(o) // the last: its contents are in memory, which would count as that of whatever is started after
	}
	return nil
}

// runBuilds measures builders.
func runBuilds(o options, chosen []workload) (err error) {
	base, err := exec.Command("scripts/setup", "busybox").Output()
	if err != nil {
		return fmt.Errorf("scripts/setup busybox: %w", err)
	}
	program, busybox = o.nacre, strings.TrimSpace(string(base))
	defer stopHub()
	stores, err := os.MkdirTemp(o.dir, "stores-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stores)
	builders, err := start(o, stores, busybox)
	defer func() {
		for _, b := range builders {
			err = errors.Join(err, b.close())
		}
	}()
	if err != nil {
		return err
	}
	for _, w := range chosen {
		r, err := w.measure(o, builders)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		r.print(os.Stdout)
		if o.report == "" {
			continue
		}
		if err := writeSection(o.report, w.name, r.markdown()); err != nil {
			return err
		}
	}
	return nil
}

// runRegistries measures registry servers.
func runRegistries(o options) error {
	rows, err := measureRegistries(o)
	if err != nil {
		return err
	}
	table := registryTable(rows, o.rounds)
	fmt.Print(table)
	if o.report == "" {
		return nil
	}
	return writeSection(o.report, registryWorkload, table+"\n")
}

// program is the nacre that is measured, busybox the base image of most workloads.
var program, busybox string

// start brings up nacre and every peer that is installed, each with a store of its own.
func start(o options, stores, base string) ([]builder, error) {
	builders := []builder{newNacre(o.nacre, stores, base)}
	for _, name := range o.peers {
		if name == "" {
			continue
		}
		program := map[string]string{"docker": "dockerd", "buildah": "buildah", "podman": "podman"}[name]
		if program == "" {
			return builders, fmt.Errorf("-peers %s: not known", name)
		}
		if _, err := exec.LookPath(program); err != nil {
			fmt.Printf("%s is not installed: no figures of it\n", name)
			continue
		}
		if name == "docker" {
			builders = append(builders, newDocker(stores, base))
		} else {
			builders = append(builders, newContainers(name, stores, base))
		}
	}
	for _, b := range builders {
		if err := b.start(); err != nil {
			return builders, fmt.Errorf("%s: %w", b.name(), err)
		}
	}
	return builders, nil
}
