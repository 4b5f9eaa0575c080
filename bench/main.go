// Bench measures whole commands, as a user starts them, of nacre and of the programs it is
// compared with, side by side in one run: absolute times move between machines, ratios
// hardly do. Rounds are interleaved, so that what happens to the machine happens to
// all, and medians are reported, with the time the same work takes without any of them: the floor.
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
	"strconv"
	"strings"
)

func main() {
	var o options
	var which, peers, rounds string
	flag.StringVar(&o.nacre, "nacre", "bin/nacre", "the nacre to measure")
	flag.StringVar(&which, "w", "all", "workloads, separated by commas: W1 to W10, R (registry servers), curves or one of them, or all (without curves)")
	flag.StringVar(&peers, "peers", "private,docker,buildah,podman,buildkit,crun,rootless", "what to compare with, where installed")
	flag.StringVar(&rounds, "n", "5", "rounds, the median is reported; N,W2=M for another number in one workload")
	flag.StringVar(&o.dir, "dir", ".cache/bench", "where contexts are kept and stores made: a disk, not a tmpfs")
	flag.BoolVar(&o.disk, "disk", true, "in a new ext4 on a file there, for the time of the run")
	flag.StringVar(&o.report, "report", "docs/benchmarks.md", "page to write the tables into; empty for none")
	flag.Float64Var(&o.scale, "scale", 1, "sizes of the workloads, to try them quickly with less than 1; then there is no page")
	flag.Parse()
	o.peers = strings.Split(peers, ",")
	o.workloads = strings.Split(strings.ToUpper(which), ",")
	if o.scale != 1 {
		o.report = ""
	}
	var err error
	if o.rounds, err = parseRounds(rounds); err == nil {
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	nacre, dir, report string
	peers, workloads   []string
	rounds             map[string]int // by workload; "" for all others
	scale              float64
	disk               bool // in a file system of its own
}

// parseRounds reads "5" or "5,W2=3".
func parseRounds(s string) (map[string]int, error) {
	rounds := map[string]int{"": 5}
	for part := range strings.SplitSeq(s, ",") {
		name, count, named := strings.Cut(part, "=")
		if !named {
			name, count = "", part
		}
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("-n %s: N or N,WORKLOAD=N, with N at least 1", s)
		}
		rounds[strings.ToUpper(name)] = n
	}
	return rounds, nil
}

func (o options) roundsOf(name string) int {
	if n, ok := o.rounds[strings.ToUpper(name)]; ok {
		return n
	}
	return o.rounds[""]
}

// wants tells whether a workload is to be measured.
func (o options) wants(names ...string) bool {
	for _, n := range names {
		if slices.Contains(o.workloads, strings.ToUpper(n)) {
			return true
		}
	}
	return false
}

func run(o options) (err error) {
	if os.Getuid() != 0 {
		return errors.New("root is needed: the builders are compared with their full isolation")
	}
	if o.nacre, err = filepath.Abs(o.nacre); err != nil {
		return err
	}
	if o.scale != 1 {
		o.dir = filepath.Join(o.dir, fmt.Sprintf("scale-%g", o.scale))
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	if o.dir, err = filepath.EvalSymlinks(o.dir); err != nil { // runtimes take no symlinks
		return err
	}
	if o.disk {
		var remove func()
		if o.dir, remove, err = freshDisk(o.dir); err != nil {
			return err
		}
		defer remove()
	}
	place, scale, program = o.dir, o.scale, o.nacre
	if busybox, err = base("busybox"); err != nil {
		return err
	}
	if floorProgram, err = buildTool(o.dir, "floor"); err != nil {
		return err
	}
	return runAll(o)
}

func runAll(o options) error {
	var chosen []workload
	for _, w := range workloads {
		if o.wants("all", w.name) || o.wants(w.also...) {
			chosen = append(chosen, w)
		}
	}
	var drawn []curve
	for _, c := range curves {
		if o.wants("curves", c.name) {
			drawn = append(drawn, c)
		}
	}
	registries := o.wants("all", registryWorkload)
	if len(chosen)+len(drawn) == 0 && !registries {
		return fmt.Errorf("-w %s: no such workload", strings.Join(o.workloads, ","))
	}
	if err := runBuilds(o, chosen); err != nil {
		return err
	}
	for _, c := range drawn {
		if err := runCurve(o, c); err != nil {
			return fmt.Errorf("curve %s: %w", c.name, err)
		}
	}
	if registries {
		return runRegistries(o) // the last: its contents are in memory, which would count as that of whatever is started after
	}
	return nil
}

// runBuilds measures builders.
func runBuilds(o options, chosen []workload) (err error) {
	if len(chosen) == 0 {
		return nil
	}
	if err := startHub(o.dir); err != nil {
		return err
	}
	defer stopHub()
	stores, err := os.MkdirTemp(o.dir, "stores-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stores)
	if err := os.Chmod(stores, 0o755); err != nil { // others than root are among them
		return err
	}
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
		if err := o.write(w.name, w.title, r.markdown()); err != nil {
			return err
		}
	}
	return nil
}

// write puts tables into the page, if there is to be one.
func (o options) write(name, title, tables string) error {
	if o.report == "" {
		return nil
	}
	return writeSection(o.report, name, title, tables)
}

// runRegistries measures registry servers.
func runRegistries(o options) error {
	rows, err := measureRegistries(o)
	if err != nil {
		return err
	}
	table := registryTable(rows, o.roundsOf(registryWorkload))
	fmt.Print(table)
	return o.write(registryWorkload, "Registry", table+"\n")
}

var (
	program      string  // the nacre that is measured
	busybox      string  // the base image of most workloads, as a tar
	scale        float64 // of sizes; 1 for figures that count
	floorProgram string
)

// scaled is n by the scale, at least 1.
func scaled(n int) int { return max(1, int(float64(n)*scale)) }

// base is the path of a root file system that scripts/setup makes.
func base(name string) (string, error) {
	cmd := exec.Command("scripts/setup", name)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("scripts/setup %s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// buildTool builds a program of bench/ into dir, static.
func buildTool(dir, name string) (string, error) {
	file := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "./bench/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return file, cmd.Run()
}

// start brings up nacre and every peer that is installed, each with a store of its own.
func start(o options, stores, basis string) ([]builder, error) {
	builders := []builder{newNacre(o.nacre, stores, basis)}
	for _, name := range o.peers {
		made, err := peer(o, name, stores, basis)
		if err != nil {
			return builders, err
		}
		builders = append(builders, made...)
	}
	var up []builder
	for i, b := range builders {
		err := b.start()
		if _, only := b.(interface{ optional() }); err != nil && only {
			text, _, _ := strings.Cut(err.Error(), "\n")
			fmt.Printf("%s does not work here, no figures of it: %s\n", b.name(), text)
			_ = b.close()
			continue
		}
		up = append(up, b)
		if err != nil {
			return append(up, builders[i+1:]...), fmt.Errorf("%s: %w", b.name(), err)
		}
	}
	return up, nil
}

// peer makes what is compared with, unless it is not installed.
func peer(o options, name, stores, basis string) ([]builder, error) {
	needs := map[string][]string{"docker": {"dockerd"}, "buildah": {"buildah"}, "podman": {"podman"}, "buildkit": {"buildkitd", "buildctl"}, "crun": {"crun"}}
	for _, p := range needs[name] {
		if _, err := exec.LookPath(p); err != nil {
			fmt.Printf("%s is not installed: no figures of %s\n", p, name)
			return nil, nil
		}
	}
	switch name {
	case "":
		return nil, nil
	case "docker":
		return []builder{newDocker(stores, basis)}, nil
	case "buildah", "podman":
		return []builder{newContainers(name, stores, basis)}, nil
	case "buildkit":
		return []builder{newBuildkit(stores, basis)}, nil
	case "crun":
		return []builder{newRuntime("crun", stores, basis), newRuntime("runc", stores, basis)}, nil
	case "private":
		return []builder{&privateNetwork{nacre: newNacre(o.nacre, stores, basis)}}, nil
	case "rootless":
		return []builder{newRootless("nacre", o.nacre, stores, basis), newRootless("podman", "podman", stores, basis), newRootlessRuntime("crun", stores, basis)}, nil
	}
	return nil, fmt.Errorf("-peers %s: not known", name)
}
