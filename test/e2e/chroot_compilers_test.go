package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestChrootGo: Go, which asks /proc where it is, builds by chroot what it builds elsewhere, to the byte.
func TestChrootGo(t *testing.T) {
	t.Parallel()
	s, home := newContained(t)
	s.importBase(t, "busybox")
	goroot := tool(t, "go", "env", "GOROOT")
	dir := filepath.Join(home, "ctx")
	// As much of it as a program takes that imports nothing.
	tool(t, "sh", "-c", `set -e; mkdir -p "$1/go"; cd "$0"
tar -cf - VERSION go.env bin/go pkg/include pkg/tool/*/compile pkg/tool/*/link pkg/tool/*/asm src/go.mod $(go list -deps -f 'src/{{.ImportPath}}' runtime) | tar -xf - -C "$1/go"`, goroot, dir)
	for name, text := range map[string]string{
		"go.mod": "module app\n\ngo 1.24\n\nrequire example.com/dep v1.0.0\n", "main.go": "package main\n\nimport \"example.com/dep\"\n\nfunc main() { println(dep.Hello) }\n",
		"vendor/modules.txt":            "# example.com/dep v1.0.0\n## explicit; go 1.24\nexample.com/dep\n",
		"vendor/example.com/dep/dep.go": "package dep\n\nconst Hello = \"hello\"\n",
	} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, "app", name)), 0o755)
		writeAll(t, filepath.Join(dir, "app", name), []byte(text))
	}
	build := "GOFLAGS='-trimpath -buildvcs=false -ldflags=-buildid= -mod=vendor' GOTOOLCHAIN=local GOCACHE=/tmp/cache"
	writeAll(t, filepath.Join(dir, "Dockerfile"), []byte(`FROM busybox AS builder
COPY go /usr/local/go
WORKDIR /app
COPY app .
RUN test "$GOROOT" = /usr/local/go
RUN `+build+` /usr/local/go/bin/go build -o /out/app && rm -r /tmp/cache
ENV PATH=/elsewhere:$PATH
RUN mkdir -p /opt/go/bin /elsewhere && cp /usr/local/go/VERSION /opt/go && cp /usr/local/go/bin/go /opt/go/bin && ln -s ../opt/go/bin/go /elsewhere/go
RUN test "$(go env GOROOT)" = /opt/go
RUN GOROOT=/usr/local/go go version
ENV GOROOT=/own
RUN test "$GOROOT" = /own
FROM scratch
COPY --from=builder /out/app /
`))
	s.ok(t, "build", "-q", "-t", "app", "-o", "type=local,dest="+home+"/out", dir)
	tool(t, "sh", "-c", `cd "$0" && GOROOT="$1" CGO_ENABLED=0 `+strings.Replace(build, "/tmp/cache", `"$2"`, 1)+` go build -o ../want`, dir+"/app", goroot, t.TempDir())
	tool(t, "cmp", home+"/out/app", dir+"/want")
}

// TestChrootNode: npm, which counts processors by /proc, installs a package and runs its script.
func TestChrootNode(t *testing.T) {
	t.Parallel()
	from := shared.store(t, "node")
	s, home := newContained(t)
	from.ok(t, "save", "-o", home+"/node.tar", "node")
	s.ok(t, "load", "-q", "-i", home+"/node.tar")
	dir := filepath.Join(home, "ctx")
	os.MkdirAll(dir+"/dep", 0o755)
	for name, text := range map[string]string{
		"dep/package.json": `{"name":"dep","version":"1.0.0","bin":{"depbin":"i.js"},"scripts":{"postinstall":"echo done >done"}}`,
		"dep/i.js":         "#!/usr/bin/env node\nconsole.log('from dep', require('child_process').spawnSync(process.execPath, ['-p', '6*7']).stdout.toString())\n",
		"package.json":     `{"name":"app","version":"1.0.0","scripts":{"build":"depbin >built"}}`,
		"Dockerfile": `FROM node
WORKDIR /dep
COPY dep .
RUN npm pack --silent
WORKDIR /app
COPY package.json .
RUN test "$(node -p 'os.cpus().length')" = "$(grep -c ^processor /proc/cpuinfo)"
RUN npm install --offline --no-audit --no-fund /dep/dep-1.0.0.tgz && npm run build
RUN grep 'from dep 42' built && grep done node_modules/dep/done
`} {
		writeAll(t, filepath.Join(dir, name), []byte(text))
	}
	s.ok(t, "build", "-q", dir)
}
