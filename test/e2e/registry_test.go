package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// dockerRegistry starts Debian's docker-registry and returns its address.
func dockerRegistry(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: %q}\n", dir, addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", config)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get("http://" + addr + "/v2/"); err == nil {
			resp.Body.Close()
			return addr
		}
	}
	t.Fatalf("docker-registry does not answer: %s", log.String())
	return ""
}

// remoteDigest is what skopeo says an image's digest is.
func remoteDigest(t *testing.T, name string) string {
	t.Helper()
	raw := tool(t, "sh", "-c", "skopeo inspect --raw --tls-verify=false docker://"+name+" | sha256sum")
	return "sha256:" + strings.Fields(raw)[0]
}

// TestRegistryPeers: what nacre pushes to Docker's registry skopeo and podman read, and what they push
// nacre pulls, with the digests they all see.
func TestRegistryPeers(t *testing.T) {
	t.Parallel()
	reg := dockerRegistry(t)
	s := newBusybox(t)
	id := sample(t, s, reg+"/team/sample:1")
	want := s.ok(t, "run", "--rm", "--network", "none", reg+"/team/sample:1", "sh", "-c", look)
	out := s.ok(t, "push", reg+"/team/sample:1")
	d := remoteDigest(t, reg+"/team/sample:1")
	if !strings.Contains(out, "1: digest: "+d) {
		t.Errorf("push says %q, skopeo %s", out, d)
	}
	if got := s.inspect(t, reg+"/team/sample:1", "{{index .RepoDigests 0}}"); got != reg+"/team/sample@"+d {
		t.Errorf("the repository digest is %s, want %s", got, d)
	}

	p := podman(t)
	tool(t, with(p, "pull", "-q", "--tls-verify=false", reg+"/team/sample@"+d)...)
	if got := tool(t, with(p, "run", "--rm", "--network=host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", reg+"/team/sample@"+d, "sh", "-c", look)...); strings.ReplaceAll(got, "mtab\n", "") != want {
		t.Errorf("podman sees\n%s\nwant\n%s", got, want)
	}
	tool(t, with(p, "tag", reg+"/team/sample@"+d, reg+"/podman/sample:1")...)
	tool(t, with(p, "push", "-q", "--tls-verify=false", reg+"/podman/sample:1")...)
	tool(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "--format", "v2s2",
		"docker://"+reg+"/team/sample:1", "docker://"+reg+"/skopeo/sample:v2")

	for _, name := range []string{reg + "/team/sample:1", reg + "/podman/sample:1", reg + "/skopeo/sample:v2"} {
		other := newStore(t)
		out := other.ok(t, "pull", name)
		if d := remoteDigest(t, name); !strings.Contains(out, "Digest: "+d) || other.ok(t, "registry", "digest", name) != d {
			t.Errorf("%s: pull says %q, skopeo %s", name, out, d)
		}
		if got := other.ok(t, "run", "--rm", "--network", "none", name, "sh", "-c", look); got != want {
			t.Errorf("%s: it looks like\n%s\nwant\n%s", name, got, want)
		}
		if name != reg+"/skopeo/sample:v2" && other.inspect(t, name, "{{.Id}}") != id && !strings.Contains(name, "podman") {
			t.Errorf("%s: the id is %s, want %s", name, other.inspect(t, name, "{{.Id}}"), id)
		}
		// It can be pushed on, and keeps the digest.
		other.ok(t, "tag", name, reg+"/again/sample:1")
		other.ok(t, "push", "-q", reg+"/again/sample:1")
		if got, want := remoteDigest(t, reg+"/again/sample:1"), remoteDigest(t, name); got != want {
			t.Errorf("%s: pushed again it is %s, want %s", name, got, want)
		}
		other.check(t)
	}
	s.ok(t, "registry", "delete", reg+"/team/sample@"+d)
	s.fails(t, 1, []string{"not found"}, "pull", reg+"/team/sample:1")
}

// TestCopyPeers: copies by nacre and by skopeo of one image for two platforms are the same.
func TestCopyPeers(t *testing.T) {
	t.Parallel()
	reg := dockerRegistry(t)
	s := newStore(t)
	dir := t.TempDir()
	var names []string
	for i, arch := range []string{"amd64", "arm64"} {
		tar := filepath.Join(dir, arch+".tar")
		os.WriteFile(tar, tarOf(t, file(arch, random(int64(i), 100_000))), 0o644)
		s.ok(t, "import", "--platform", "linux/"+arch, tar, reg+"/one:"+arch)
		s.ok(t, "push", "-q", reg+"/one:"+arch)
		names = append(names, reg+"/one:"+arch)
	}
	p := podman(t)
	tool(t, with(p, "manifest", "create", "list")...)
	for _, name := range names {
		tool(t, with(p, "manifest", "add", "--tls-verify=false", "list", "docker://"+name)...)
	}
	tool(t, with(p, "manifest", "push", "-q", "--all", "--tls-verify=false", "list", "docker://"+reg+"/multi:1")...)
	d := remoteDigest(t, reg+"/multi:1")

	s = newStore(t)
	s.ok(t, "copy", reg+"/multi:1", reg+"/other/multi:2")
	s.ok(t, "copy", reg+"/multi:1", "oci:"+dir+"/layout:1")
	tool(t, "skopeo", "copy", "-q", "--all", "--dest-tls-verify=false", "oci:"+dir+"/layout:1", "docker://"+reg+"/third/multi:3")
	s.ok(t, "copy", reg+"/third/multi:3", "oci-archive:"+dir+"/multi.tar")
	s.ok(t, "copy", "oci-archive:"+dir+"/multi.tar", reg+"/fourth/multi:4")
	for _, name := range []string{"/other/multi:2", "/third/multi:3", "/fourth/multi:4"} {
		if got := remoteDigest(t, reg+name); got != d {
			t.Errorf("%s is %s, want %s", name, got, d)
		}
	}
	for _, arch := range []string{"amd64", "arm64"} {
		s.ok(t, "pull", "--platform", "linux/"+arch, reg+"/fourth/multi:4")
		if got := s.ok(t, "inspect", "--platform", "linux/"+arch, "-f", "{{.Architecture}}", reg+"/fourth/multi:4"); got != arch {
			t.Errorf("it is for %s, want %s", got, arch)
		}
	}
	if out := s.ok(t, "images", "--digests"); !strings.Contains(out, d) {
		t.Errorf("the index is not known by its digest %s:\n%s", d, out)
	}
	s.fails(t, 1, []string{"no image for the platform linux/riscv64", "linux/amd64, linux/arm64"}, "pull", "--platform", "linux/riscv64", reg+"/multi:1")
	if _, err := os.Stat(s.root + "/blobs"); err != nil {
		t.Error(err)
	}
}
