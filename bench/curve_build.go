package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

var filesCurve = curve{
	name: "files", title: "Files of a context", axis: "files",
	points: []int{1, 10, 100, 1_000, 10_000, 50_000, 200_000},
	works:  []string{"COPY of all, cold", "nothing changed", "one file changed"},
	run: func(p *site, n int) ([]cost, error) {
		var s series
		s.do(write(filepath.Dir(p.dir), map[string]string{"Dockerfile": "FROM busybox\nCOPY . /src\n"}))
		s.do(writeTree(p.dir, n, 200))
		build := func() (cost, error) { return p.build(p.dir, filepath.Dir(p.dir)+"/Dockerfile", "files") }
		settle()
		s.take(build)
		s.takeMedian(build)
		s.do(alter(filepath.Join(p.dir, fmt.Sprintf("%03d/file-%05d", n/2/100, n/2))))
		s.take(build)
		return s.costs, s.err
	},
}

// dockerfile writes one next to the context and returns its path.
func (p *site) dockerfile(name string, lines ...string) (string, error) {
	file := filepath.Join(filepath.Dir(p.dir), name)
	return file, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// lines are a first line and n more.
func lines(n int, first, format string) []string {
	list := []string{first}
	for i := range n {
		list = append(list, fmt.Sprintf(format, i))
	}
	return list
}

// builds measures a cold build of a Dockerfile, and another with nothing to do.
func (s *series) builds(p *site, tag string, text ...string) {
	file, err := p.dockerfile(tag, text...)
	s.do(err)
	build := func() (cost, error) { return p.build(p.dir, file, tag) }
	s.take(build)
	s.takeMedian(build)
}

var layersCurve = curve{
	name: "layers", title: "Layers of an image", axis: "layers",
	points: []int{1, 10, 50, 100, 200, 400, 498},
	works: []string{
		"build, a COPY for each", "nothing changed", "one more COPY on it", "one more RUN on it", "run true in it", "history and inspect", "save",
	},
	note: "The base image has one more, and what layers leave out of directories may make another. Overlayfs mounts 500 layers at most.",
	run: func(p *site, n int) ([]cost, error) {
		var s series
		for i := range n {
			s.do(write(p.dir, map[string]string{fmt.Sprintf("f%d", i): fmt.Sprint(i, n)}))
		}
		s.builds(p, "many", lines(n, "FROM busybox", "COPY f%[1]d /f%[1]d")...)
		one := func(tag, step string) {
			file, err := p.dockerfile(tag, "FROM many", step)
			s.do(err)
			s.take(func() (cost, error) { return p.build(p.dir, file, tag) })
		}
		if n+2 < 500 {
			one("copied", "COPY f0 /again")
			one("ran", "RUN echo > /again")
		} else {
			s.skip()
			s.skip()
		}
		s.takeMedian(func() (cost, error) { return p.run("many") })
		s.takeMedian(func() (cost, error) {
			h, err := p.nacre.do("history", "many")
			if err != nil {
				return h, err
			}
			i, err := p.nacre.do("inspect", "many")
			return h.and(i), err
		})
		s.take(func() (cost, error) { return p.save("many", filepath.Join(filepath.Dir(p.dir), "many.tar")) })
		return s.costs, s.err
	},
}

// chain is how many RUN make one stage: each writes a layer, and a root has few hundred at most.
const chain = 100

var stepsCurve = curve{
	name: "steps", title: "Steps of a Dockerfile", axis: "steps",
	points: []int{1, 10, 100, 300, 1_000},
	works: []string{
		"ENV, cold", "ENV, nothing changed", "COPY, cold", "COPY, nothing changed",
		"RUN, a hundred to a stage, cold", "RUN, nothing changed",
	},
	run: func(p *site, n int) ([]cost, error) {
		var s series
		s.do(write(p.dir, map[string]string{"f": "f"}))
		s.builds(p, "env", lines(n, "FROM busybox", "ENV v%[1]d=%[1]d")...)
		s.builds(p, "copy", lines(n, "FROM busybox", "COPY f /f%d")...)
		text := []string{}
		for i := range n {
			if i%chain == 0 {
				text = append(text, fmt.Sprintf("FROM busybox AS s%d", i/chain))
			}
			text = append(text, fmt.Sprintf("RUN echo %d > /out%d", i, i))
		}
		last := len(text)
		text = append(text, "FROM busybox")
		for i := 0; i < n; i += chain {
			text = append(text, fmt.Sprintf("COPY --from=s%d /out%d /", i/chain, i))
		}
		if n <= chain {
			text = text[:last]
		}
		s.builds(p, "run", text...)
		return s.costs, s.err
	},
}

var buildsCurve = curve{
	name: "builds", title: "Builds at once", axis: "builds",
	points: []int{1, 2, 4, 8},
	works:  []string{"cold, each of its own context", "nothing changed"},
	note:   "All builds of a point share a store; the time is that of all together.",
	run: func(p *site, n int) ([]cost, error) {
		var s series
		var script strings.Builder
		for i := range n {
			dir := filepath.Join(p.dir, fmt.Sprint(i))
			s.do(write(dir, map[string]string{
				"Dockerfile": "FROM busybox\nWORKDIR /src\nCOPY . .\n" + strings.Repeat("RUN ls -R | md5sum > /sum\nRUN cat /sum > /again\n", 5),
			}))
			s.do(writeTree(dir, 1000, 2000))
			s.do(os.WriteFile(filepath.Join(dir, "which"), fmt.Appendln(nil, i), 0o644))
			fmt.Fprintf(&script, "%s & pids=\"$pids $!\"\n", strings.Join(p.cmd("build", "-q", "-t", fmt.Sprintf("b%d", i), dir).Args, " "))
		}
		script.WriteString("for p in $pids; do wait $p || exit 1; done\n")
		all := func() (cost, error) { return measure(exec.Command("sh", "-c", script.String()), 0) }
		settle()
		s.take(all)
		s.takeMedian(all)
		return s.costs, s.err
	},
}
