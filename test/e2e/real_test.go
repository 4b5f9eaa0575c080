package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// shared is one store for the images that take long to make. Tests on it run side by
// side, as builds on one machine do.
var shared bases

type bases struct {
	mu   sync.Mutex
	dir  string
	made map[string]*sync.Once
}

// store returns the shared store after making the images named.
func (b *bases) store(t testing.TB, images ...string) *store {
	t.Helper()
	b.mu.Lock()
	if b.dir == "" {
		dir, err := os.MkdirTemp("", "nacre-root-")
		if err != nil {
			t.Fatal(err)
		}
		b.dir, b.made = dir, map[string]*sync.Once{}
	}
	s := &store{root: filepath.Join(b.dir, "root")}
	b.mu.Unlock()
	for _, image := range images {
		b.once(image).Do(func() { b.make(t, s, image) })
		if r := s.run(t, "inspect", "-f", "{{.Id}}", image); r.code != 0 {
			t.Fatalf("the base %s could not be made: %v", image, r)
		}
	}
	return s
}

func (b *bases) once(image string) *sync.Once {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made[image] == nil {
		b.made[image] = new(sync.Once)
	}
	return b.made[image]
}

func (b *bases) make(t testing.TB, s *store, image string) {
	t.Helper()
	switch image {
	case "debian":
		s.importBase(t, "debian", `CMD ["bash"]`)
	case "alpine":
		s.importBase(t, "busybox", `CMD ["sh"]`)
		s.ok(t, "tag", "busybox", "alpine")
	case "node":
		b.store(t, "debian")
		s.build(t, "node", "testdata/nodebase", proxyArgs()...)
	case "golang":
		b.store(t, "debian")
		goroot := tool(t, "go", "env", "GOROOT")
		s.build(t, "golang", goroot, "-f", "testdata/gobase/Dockerfile")
	}
}

func (b *bases) close() {
	if b.dir != "" {
		os.RemoveAll(b.dir)
	}
}

func TestNginx(t *testing.T) {
	t.Parallel()
	s := shared.store(t, "debian")
	dir := copyDir(t, "nginx")
	first := s.build(t, "web", dir, proxyArgs()...)
	first.ran(t, "RUN apt-get update && apt-get install -y nginx")
	first.ran(t, "COPY index.html /var/www/html/")

	// history: each instruction with its size, the youngest first.
	history := strings.Split(s.ok(t, "history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Size}}", "web"), "\n")
	want := []struct {
		begins string
		empty  bool
	}{
		{`CMD ["nginx" "-g" "daemon off;"]`, true},
		{`EXPOSE `, true},
		{`COPY index.html /var/www/html/ # buildkit`, false},
		{`RUN /bin/sh -c apt-get update && apt-get install -y nginx # buildkit`, false},
	}
	if len(history) < len(want)+1 {
		t.Fatalf("history is too short:\n%s", strings.Join(history, "\n"))
	}
	for i, w := range want {
		by, size, _ := strings.Cut(history[i], "|")
		if !strings.HasPrefix(by, w.begins) || (size == "0B") != w.empty {
			t.Errorf("history line %d is %q, wanted %q with an empty layer %v", i, history[i], w.begins, w.empty)
		}
	}
	if _, size, _ := strings.Cut(history[3], "|"); !strings.HasSuffix(size, "MB") {
		t.Errorf("the layer of apt-get install is %s", size)
	}
	if got := s.inspect(t, "web", "{{json .Config.Cmd}} {{json .Config.ExposedPorts}}"); got != `["nginx","-g","daemon off;"] {"80/tcp":{}}` {
		t.Errorf("config: %s", got)
	}

	page := "thin layers, laid one on another"
	t.Run("serve on a port of this machine", func(t *testing.T) {
		port := freePort(t)
		conf := filepath.Join(t.TempDir(), "default")
		site := fmt.Sprintf("server { listen 127.0.0.1:%d; root /var/www/html; index index.html; }\n", port)
		if err := os.WriteFile(conf, []byte(site), 0o644); err != nil {
			t.Fatal(err)
		}
		srv := s.start(t, "run", "--rm", "--network", "host", "-v", conf+":/etc/nginx/sites-enabled/default:ro", "web")
		if got := srv.get(t, fmt.Sprintf("http://127.0.0.1:%d/", port)); !strings.Contains(got, page) {
			t.Errorf("the page is %q", got)
		}
		if code := srv.stop(syscall.SIGTERM); code != 0 {
			t.Errorf("nginx ends with %d when it is told to\n%s", code, srv.out)
		}
	})
	t.Run("serve as it is, alone on its network", func(t *testing.T) {
		srv := s.start(t, "run", "--rm", "--network", "none", "web")
		pid := fmt.Sprint(srv.child(t))
		out, err := exec.Command("nsenter", "-t", pid, "-n", "curl", "-sS", "--retry", "20", "--retry-connrefused",
			"--retry-delay", "1", "http://127.0.0.1:80/").CombinedOutput()
		if err != nil || !strings.Contains(string(out), page) {
			t.Errorf("curl: %v, %s\n%s", err, out, srv.out)
		}
	})

	// Another page: what stands before it is not done again.
	replace(t, filepath.Join(dir, "index.html"), "one on another", "on each other")
	second := s.build(t, "web", dir, proxyArgs()...)
	second.hit(t, "RUN apt-get update && apt-get install -y nginx")
	second.ran(t, "COPY index.html /var/www/html/")
	if got := s.ok(t, "run", "--rm", "--network", "none", "web", "cat", "/var/www/html/index.html"); !strings.Contains(got, "laid on each other") {
		t.Errorf("the new page is %q", got)
	}
}

func TestNode(t *testing.T) {
	t.Parallel()
	s := shared.store(t, "node")
	dir := copyDir(t, "node")
	// What .dockerignore names stays out.
	os.MkdirAll(filepath.Join(dir, "node_modules/ms"), 0o755)
	os.WriteFile(filepath.Join(dir, "node_modules/ms/index.js"), []byte("throw 'the wrong ms'"), 0o644)
	os.WriteFile(filepath.Join(dir, "debug.log"), []byte("x"), 0o644)
	first := s.build(t, "app", dir, proxyArgs()...)
	first.ran(t, "RUN npm install")
	if got := s.ok(t, "run", "--rm", "--network", "none", "app", "ls"); strings.Contains(got, "debug.log") || !strings.Contains(got, "node_modules") {
		t.Errorf("the app's folder holds %q", got)
	}

	port := freePort(t)
	srv := s.start(t, "run", "--rm", "--network", "host", "-e", fmt.Sprintf("PORT=%d", port), "app")
	if got := srv.get(t, fmt.Sprintf("http://127.0.0.1:%d/", port)); got != "2 days are 172800000 ms\n" {
		t.Errorf("the page is %q", got)
	}

	replace(t, filepath.Join(dir, "server.js"), "are ${", "last ${")
	second := s.build(t, "app", dir, proxyArgs()...)
	second.hit(t, "COPY package*.json ./")
	second.hit(t, "RUN npm install")
	second.ran(t, "COPY . .")

	replace(t, filepath.Join(dir, "package.json"), "1.0.0", "1.0.1")
	s.build(t, "app", dir, proxyArgs()...).ran(t, "RUN npm install")
}

func TestGo(t *testing.T) {
	t.Parallel()
	s := shared.store(t, "golang", "alpine")
	dir := copyDir(t, "golang")
	first := s.build(t, "hello", dir)
	first.ran(t, "RUN go build -o myapp")
	if got := s.ok(t, "run", "--rm", "--network", "none", "hello"); got != "hello from the second stage" {
		t.Errorf("it says %q", got)
	}

	// The toolchain stays in its stage.
	if r := s.run(t, "run", "--rm", "--network", "none", "hello", "ls", "/usr/local/go"); r.code == 0 {
		t.Errorf("the final image has a toolchain: %v", r)
	}
	var layers []string
	if err := json.Unmarshal([]byte(s.inspect(t, "hello", "{{json .RootFS.Layers}}")), &layers); err != nil || len(layers) != 2 {
		t.Errorf("layers: %v, %v", layers, err)
	}

	// A comment is not code: what comes out of the compiler is equal, and so all after it hits.
	id := s.inspect(t, "hello", "{{.Id}}")
	replace(t, filepath.Join(dir, "main.go"), "// main says where it is.", "// main tells where it is")
	second := s.build(t, "hello", dir)
	second.ran(t, "COPY . .")
	second.ran(t, "RUN go build -o myapp")
	second.hit(t, "COPY --from=builder /app/myapp .")
	if now := s.inspect(t, "hello", "{{.Id}}"); now != id {
		t.Errorf("the image changed from %s to %s", id, now)
	}

	replace(t, filepath.Join(dir, "main.go"), "hello from", "greetings from")
	third := s.build(t, "hello", dir)
	third.ran(t, "COPY --from=builder /app/myapp .")
	if got := s.ok(t, "run", "--rm", "--network", "none", "hello"); got != "greetings from the second stage" {
		t.Errorf("it says %q", got)
	}
}
