package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Workloads where there is little to do: what is left is what a tool costs by itself.

var w1 = workload{
	name: "W1", title: "W1: nothing to do",
	cases: []caseInfo{{
		title: "fully cached rebuild, small multi-step Dockerfile", floor: "start of a small program",
		goal: map[string]float64{"docker": 4, "buildah": 39, "podman": 48, "buildkit": 3.5},
	}},
	prepare: prepareW1, round: roundW1,
	floor: func(string, int) ([]cost, error) { c, err := floorOf("exec"); return []cost{c}, err },
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

const w3Steps = 20

var w3 = workload{
	name: "W3", title: "W3: small steps",
	cases: []caseInfo{{
		title: "twenty times RUN true, cold", floor: "twenty times namespaces, overlay, exec",
		goal: map[string]float64{"docker": 10, "buildah": 36, "podman": 43, "buildkit": 12},
	}},
	prepare: func(dir string) error {
		return write(dir, map[string]string{"Dockerfile": "FROM busybox\n" + strings.Repeat("RUN true\n", scaled(w3Steps)), "ctx/empty": ""})
	},
	round: cold,
	floor: func(dir string, _ int) ([]cost, error) {
		c, err := floorSteps(dir, scaled(w3Steps))
		return []cost{c}, err
	},
}

// floorSteps starts true in namespaces and an overlay of its own, n times.
func floorSteps(dir string, n int) (cost, error) {
	root := filepath.Join(dir, "root")
	if _, err := os.Stat(root + "/bin"); err != nil {
		if err := os.MkdirAll(root, 0o755); err != nil {
			return cost{}, err
		}
		if err := quiet("tar", "-xf", busybox, "-C", root); err != nil {
			return cost{}, err
		}
	}
	scratch, err := os.MkdirTemp(dir, "floor-")
	if err != nil {
		return cost{}, err
	}
	defer os.RemoveAll(scratch)
	return floorOf("steps", root, scratch, fmt.Sprint(n))
}

// w5Sleep is long enough for the rest not to matter much.
func w5Sleep() time.Duration { return time.Duration(float64(2*time.Second) * scale) }

var w5 = workload{
	name: "W5", title: "W5: stages side by side",
	cases: []caseInfo{{
		title: "four stages of sleep 2, COPY from each", floor: "four times sleep 2 at once",
		goal: map[string]float64{"docker": 1.11, "buildah": 1.48, "podman": 1.62, "buildkit": 1.12},
	}},
	prepare: prepareW5, round: cold,
	floor: func(string, int) ([]cost, error) {
		c, err := floorOf("sleep", "4", fmt.Sprint(w5Sleep().Seconds()))
		return []cost{c}, err
	},
}

func prepareW5(dir string) error {
	text := ""
	for i := range 4 {
		text += fmt.Sprintf("FROM busybox AS s%d\nRUN sleep %g && echo %d > /out%d\n", i, w5Sleep().Seconds(), i, i)
	}
	text += "FROM busybox\n"
	for i := range 4 {
		text += fmt.Sprintf("COPY --from=s%d /out%d /\n", i, i)
	}
	return write(dir, map[string]string{"Dockerfile": text, "ctx/empty": ""})
}

var w10 = workload{
	name: "W10", title: "W10: start of a container", rounds: 21,
	cases: []caseInfo{{
		title: "run --rm busybox true, network of the host", floor: "namespaces, overlay, exec",
		notes: []string{
			"An OCI runtime by itself starts a root that is unpacked already: no image, no layers, no writable side, nothing recorded or removed.",
			"\"private network\" is `nacre run` as it comes: the container has a network of its own, with a way out. Rootless is an ordinary user who has subordinate ids; crun's container has the user's alone.",
		},
	}},
	prepare: func(dir string) error { return os.MkdirAll(dir, 0o755) },
	round: func(_ string, b builder, round int) ([]cost, error) {
		if round == 0 { // what a store makes at first is not measured
			if _, err := b.run("busybox"); err != nil {
				return nil, err
			}
		}
		settle()
		c, err := b.run("busybox")
		return []cost{c}, err
	},
	floor: func(dir string, _ int) ([]cost, error) { c, err := floorSteps(dir, 1); return []cost{c}, err },
}
