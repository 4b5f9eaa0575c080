package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/registrytest"
)

// peer is nacre serve as the tools of others know it.
type peer struct {
	*registryServer
	s       *store   // nacre as its client
	dir     string   // of the server
	access  []string // how podman and buildah reach it
	podman  []string
	buildah []string
	curl    []string
}

// newPeer starts nacre serve, plain or by TLS with the user alice.
func newPeer(t *testing.T, secure bool) *peer {
	t.Helper()
	dir := t.TempDir()
	p := &peer{s: newStore(t), dir: dir, podman: podman(t), curl: []string{"curl", "-sS"}}
	p.buildah = append([]string{"buildah"}, p.podman[1:5]...)
	p.buildah = append(p.buildah, "--storage-driver", "vfs")
	args := []string{"--dir", dir + "/registry"}
	if !secure {
		p.registryServer = p.s.serve(t, args...)
		p.access = []string{"--tls-verify=false"}
		return p
	}
	writeTLS(t, dir)
	writeUsers(t, dir, "alice")
	p.registryServer = p.s.serve(t, append(args, "--tls-cert", dir+"/cert.pem", "--tls-key", dir+"/key.pem", "--htpasswd", dir+"/users")...)
	p.access = []string{"--cert-dir", dir + "/ca"}
	refused(t, with(p.podman, "login", "-u", "alice", "-p", "wrong", "--authfile", dir+"/none.json", "--cert-dir", dir+"/ca", p.addr)...)
	tool(t, with(p.podman, "login", "-u", "alice", "-p", password("alice"), "--authfile", dir+"/auth.json", "--cert-dir", dir+"/ca", p.addr)...)
	p.access = append(p.access, "--authfile", dir+"/auth.json")
	p.curl = append(p.curl, "--cacert", dir+"/cert.pem", "-u", "alice:"+password("alice"))
	p.s.trust(t, dir, p.addr)
	return p
}

// skopeo runs a verb of skopeo with access to the server: as the source, the destination, or just so.
func (p *peer) skopeo(t *testing.T, verb string, args ...string) string {
	t.Helper()
	argv := []string{"skopeo", verb}
	switch {
	case verb == "copy" || verb == "sync":
		for _, side := range []string{"--src-", "--dest-"} {
			if p.access[0] == "--tls-verify=false" {
				argv = append(argv, side+"tls-verify=false")
				continue
			}
			argv = append(argv, side+"cert-dir", p.access[1], side+"authfile", p.access[3])
		}
	default:
		argv = append(argv, p.access...)
	}
	return tool(t, append(argv, args...)...)
}

// wantDigest compares what skopeo says a name's digest is, and nacre.
func (p *peer) wantDigest(t *testing.T, name, want string) {
	t.Helper()
	raw := p.skopeo(t, "inspect", "--raw", "docker://"+p.addr+"/"+name)
	if got := image.Describe("", []byte(raw)).Digest.String(); got != want {
		t.Errorf("skopeo: %s is %s, want %s", name, got, want)
	}
	if got := p.s.ok(t, "registry", "digest", p.addr+"/"+name); got != want {
		t.Errorf("nacre: %s is %s, want %s", name, got, want)
	}
}

// multi writes an index of two platforms as an OCI layout, tagged 1.
func multi(t *testing.T) (dir, digest string) {
	t.Helper()
	var images []registrytest.Image
	platforms := []image.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	for i, p := range platforms {
		tar := registrytest.Tar(p.Architecture, random(int64(i), 300_000))
		images = append(images, registrytest.NewImage(p, [][]byte{tar}, image.TypeLayerGzip))
	}
	index := registrytest.NewIndex(platforms, images)
	dir = t.TempDir()
	l, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	registrytest.Put(t, l, registry.Ref{Tag: "1"}, index)
	return dir, index.Desc().Digest.String()
}

// TestServeInterop: the tools of others work with nacre serve, plain and with TLS and passwords.
func TestServeInterop(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, secure)
			t.Run("skopeo", func(t *testing.T) { t.Parallel(); interopSkopeo(t, p) })
			t.Run("podman and buildah", func(t *testing.T) { t.Parallel(); interopPodman(t, p) })
			t.Run("curl", func(t *testing.T) { t.Parallel(); interopCurl(t, p) })
			t.Run("docker-registry", func(t *testing.T) { t.Parallel(); interopRegistry(t, p) })
			t.Cleanup(func() { (&store{root: p.dir + "/registry"}).check(t) })
		})
	}
}

func interopSkopeo(t *testing.T, p *peer) {
	dir, digest := multi(t)
	docker := "docker://" + p.addr
	p.skopeo(t, "copy", "-q", "--all", "--preserve-digests", "oci:"+dir+":1", docker+"/skopeo/multi:1")
	p.wantDigest(t, "skopeo/multi:1", digest)
	p.skopeo(t, "copy", "-q", "--all", "--preserve-digests", docker+"/skopeo/multi:1", docker+"/skopeo/again/multi:2")
	p.wantDigest(t, "skopeo/again/multi:2", digest)
	p.skopeo(t, "copy", "-q", "--format", "v2s2", docker+"/skopeo/multi:1", docker+"/skopeo/multi:docker")
	var seen struct{ Architecture, Digest string }
	if err := json.Unmarshal([]byte(p.skopeo(t, "inspect", "--override-arch", "arm64", docker+"/skopeo/multi@"+digest)), &seen); err != nil || seen.Architecture != "arm64" {
		t.Errorf("inspect: %+v, %v", seen, err)
	}
	var list struct{ Tags []string }
	if err := json.Unmarshal([]byte(p.skopeo(t, "list-tags", docker+"/skopeo/multi")), &list); err != nil || strings.Join(list.Tags, " ") != "1 docker" {
		t.Errorf("list-tags: %v, %v", list.Tags, err)
	}
	// There and back again.
	synced := t.TempDir()
	p.skopeo(t, "sync", "--all", "--src", "docker", "--dest", "dir", p.addr+"/skopeo/multi", synced)
	p.skopeo(t, "sync", "--all", "--src", "dir", "--dest", "docker", synced, p.addr+"/synced")
	p.wantDigest(t, "synced/multi:1", digest)
	p.wantDigest(t, "synced/multi:docker", p.s.ok(t, "registry", "digest", p.addr+"/skopeo/multi:docker"))
	p.skopeo(t, "delete", docker+"/skopeo/multi:docker")
	if got := p.s.ok(t, "registry", "tags", p.addr+"/skopeo/multi"); got != "1" {
		t.Errorf("tags after the deletion: %q", got)
	}
	p.s.fails(t, 1, []string{"not found"}, "registry", "digest", p.addr+"/skopeo/multi:docker")
}

func interopPodman(t *testing.T, p *peer) {
	s := newBusybox(t)
	s.env = p.s.env
	name := p.addr + "/team/sample"
	id := sample(t, s, name+":1")
	want := s.ok(t, "run", "--rm", "--network", "none", name+":1", "sh", "-c", look)
	s.ok(t, "push", "-q", name+":1")
	d := s.ok(t, "registry", "digest", name+":1")
	access := func(cmd []string, args ...string) string {
		t.Helper()
		argv := with(cmd, args[0])
		if args[0] == "manifest" {
			argv, args = append(argv, args[1]), args[1:]
		}
		return tool(t, append(append(argv, p.access...), args[1:]...)...)
	}
	for _, ref := range []string{name + ":1", name + "@" + d} {
		if got := access(p.podman, "pull", "-q", ref); "sha256:"+got != id {
			t.Errorf("podman pulled %s as %s, it is %s", ref, got, id)
		}
	}
	got := tool(t, with(p.podman, "run", "--rm", "--network=host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", name+"@"+d, "sh", "-c", look)...)
	if strings.ReplaceAll(got, "mtab\n", "") != want {
		t.Errorf("in podman it looks like\n%s\nhere like\n%s", got, want)
	}
	file := filepath.Join(t.TempDir(), "digest")
	pushed := func() string {
		t.Helper()
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	access(p.podman, "push", "-q", "--digestfile", file, name+":1", p.addr+"/podman/sample:1")
	p.wantDigest(t, "podman/sample:1", pushed())

	container := access(p.buildah, "from", name+":1")
	tool(t, with(p.buildah, "config", "--label", "by=buildah", container)...)
	tool(t, with(p.buildah, "commit", "-q", "--rm", container, "mine")...)
	access(p.buildah, "push", "-q", "--digestfile", file, "mine", "docker://"+p.addr+"/buildah/mine:1")
	p.wantDigest(t, "buildah/mine:1", pushed())
	other := newStore(t)
	other.env = p.s.env
	other.ok(t, "pull", "-q", p.addr+"/buildah/mine:1")
	if got := other.inspect(t, p.addr+"/buildah/mine:1", `{{.Config.Labels.by}}`); got != "buildah" {
		t.Errorf("its label is %q", got)
	}

	dir, _ := multi(t)
	p.skopeo(t, "copy", "-q", "--all", "oci:"+dir+":1", "docker://"+p.addr+"/buildah/parts:1")
	tool(t, with(p.buildah, "manifest", "create", "list")...)
	access(p.buildah, "manifest", "add", "--all", "list", "docker://"+p.addr+"/buildah/parts:1")
	access(p.buildah, "manifest", "add", "list", "docker://"+p.addr+"/buildah/mine:1")
	access(p.buildah, "manifest", "push", "-q", "--all", "--digestfile", file, "list", "docker://"+p.addr+"/buildah/list:1")
	p.wantDigest(t, "buildah/list:1", pushed())
	var index struct{ Manifests []struct{ Digest string } }
	if err := json.Unmarshal([]byte(p.s.ok(t, "registry", "manifest", "--raw", p.addr+"/buildah/list:1")), &index); err != nil || len(index.Manifests) != 3 {
		t.Errorf("the list: %+v, %v", index, err)
	}
	for _, m := range index.Manifests {
		p.wantDigest(t, "buildah/list@"+m.Digest, m.Digest)
	}
}

func interopRegistry(t *testing.T, p *peer) {
	dir, digest := multi(t)
	reg := dockerRegistry(t)
	theirs := func(name string) {
		t.Helper()
		if got := remoteDigest(t, reg+"/"+name); got != digest {
			t.Errorf("docker-registry: %s is %s, want %s", name, got, digest)
		}
	}
	p.s.ok(t, "copy", "-q", "oci:"+dir+":1", reg+"/multi:1")
	theirs("multi:1")
	p.s.ok(t, "copy", "-q", reg+"/multi:1", p.addr+"/from/docker:1")
	p.wantDigest(t, "from/docker:1", digest)
	p.s.ok(t, "copy", "-q", p.addr+"/from/docker:1", reg+"/and/back:1")
	theirs("and/back:1")
	list := filepath.Join(t.TempDir(), "images.yaml")
	write(t, list, fmt.Sprintf("%s: {images: {from/docker: ['1']}}\n", p.addr))
	p.s.ok(t, "sync", "-q", list, reg+"/synced")
	theirs("synced/from/docker:1")
	write(t, list, fmt.Sprintf("%s: {images: {multi: ['1']}}\n", reg))
	p.s.ok(t, "sync", "-q", list, p.addr+"/synced/here")
	p.wantDigest(t, "synced/here/multi:1", digest)

	// Through a store: the whole index is not in it, the image for this platform is.
	s := newStore(t)
	s.env = p.s.env
	s.ok(t, "pull", "-q", "--platform", "linux/arm64", reg+"/multi:1")
	s.ok(t, "tag", reg+"/multi:1", p.addr+"/through:1")
	s.ok(t, "push", "-q", "--platform", "linux/arm64", p.addr+"/through:1")
	one := s.ok(t, "registry", "digest", p.addr+"/through:1")
	s.ok(t, "pull", "-q", p.addr+"/from/docker@"+one) // it is one of the index
	s.ok(t, "tag", p.addr+"/through:1", reg+"/through:1")
	s.ok(t, "push", "-q", "--platform", "linux/arm64", reg+"/through:1")
	if got := remoteDigest(t, reg+"/through:1"); got != one {
		t.Errorf("through the store it became %s, was %s", got, one)
	}
	s.check(t)
}

func interopCurl(t *testing.T, p *peer) {
	dir, _ := multi(t)
	p.s.ok(t, "copy", "-q", "oci:"+dir+":1", p.addr+"/curl:1")
	scheme := "http://"
	if len(p.access) > 1 {
		scheme = "https://"
	}
	content := random(7, 200_000)
	blob := image.Describe("", []byte(content))
	file := filepath.Join(t.TempDir(), "blob")
	write(t, file, content)
	curl := func(args ...string) string { t.Helper(); return tool(t, with(p.curl, args...)...) }
	if got := curl("-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@"+file, scheme+p.addr+"/v2/curl/blobs/uploads/?digest="+blob.Digest.String()); got != "201" {
		t.Fatalf("upload: %s", got)
	}
	url := scheme + p.addr + "/v2/curl/blobs/" + blob.Digest.String()
	head := strings.ToLower(curl("-I", url))
	for _, want := range []string{" 200", "content-length: 200000", "accept-ranges: bytes", "docker-content-digest: " + blob.Digest.String()} {
		if !strings.Contains(head, want) {
			t.Errorf("HEAD has no %q: %s", want, head)
		}
	}
	for _, c := range []struct{ ranges, status, want string }{
		{"0-9", "206", content[:10]}, {"100000-", "206", content[100000:]}, {"-7", "206", content[len(content)-7:]},
		{"199999-300000", "206", content[199999:]},
	} {
		out := filepath.Join(t.TempDir(), "part")
		status := curl("-o", out, "-w", "%{http_code}", "-r", c.ranges, url)
		if got, err := os.ReadFile(out); err != nil || status != c.status || string(got) != c.want {
			t.Errorf("range %s: %s, %d bytes, %v", c.ranges, status, len(got), err)
		}
	}
	parts := filepath.Join(t.TempDir(), "parts")
	if got := curl("-o", parts, "-w", "%{http_code} %{content_type}", "-r", "0-9,20-29", url); !strings.HasPrefix(got, "206 multipart/byteranges") {
		t.Errorf("two ranges: %s", got)
	} else if data, _ := os.ReadFile(parts); !strings.Contains(string(data), content[:10]) || !strings.Contains(string(data), content[20:30]) {
		t.Errorf("two ranges: %d bytes", len(data))
	}
	body := func(args ...string) string { return curl(append(args, "-w", "%{http_code}")...) }
	for what, c := range map[string]struct{ got, status, code string }{
		"range too far": {body("-r", "200000-", url), "416", "SIZE_INVALID"},
		"OPTIONS":       {body("-X", "OPTIONS", scheme+p.addr+"/v2/curl/manifests/1"), "405", "UNSUPPORTED"},
		"TRACE":         {body("-X", "TRACE", url), "405", "UNSUPPORTED"},
		"no such tag":   {body(scheme + p.addr + "/v2/curl/manifests/none"), "404", "MANIFEST_UNKNOWN"},
	} {
		if !strings.HasSuffix(c.got, c.status) || !strings.Contains(c.got, `{"errors":[{"code":"`+c.code+`"`) {
			t.Errorf("%s: %s", what, c.got)
		}
	}
	if allow := strings.ToLower(curl("-o", "/dev/null", "-D", "-", "-X", "OPTIONS", scheme+p.addr+"/v2/curl/manifests/1")); !strings.Contains(allow, "allow: get, head, put, delete") {
		t.Errorf("OPTIONS: %s", allow)
	}
	// Headers larger than the limit are refused, or the stream is; the server goes on.
	for _, version := range []string{"--http1.1", "--http2"} {
		large := "X-Large: " + strings.Repeat("x", 90_000)
		code := tool(t, "sh", "-c", `"$@" 2>/dev/null || echo " refused"`, "sh", "curl", "-sS", version, "--cacert", filepath.Join(p.dir, "cert.pem"), "-o", "/dev/null", "-w", "%{http_code}", "-H", large, scheme+p.addr+"/v2/")
		if code != "431" && !strings.HasSuffix(code, "refused") {
			t.Errorf("%s: large headers: %s", version, code)
		}
	}
	if got := body("-I", "-o", "/dev/null", url); got != "200" {
		t.Errorf("afterwards: %s", got)
	}
}
