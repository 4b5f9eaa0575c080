package e2e

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestServeProxy pulls through one of our servers from another, which then goes away.
func TestServeProxy(t *testing.T) {
	s := newBusybox(t)
	id := sample(t, s, "library-app:1")
	far := s.serve(t)
	config := filepath.Join(t.TempDir(), "serve.yaml")
	write(t, config, "dir: data\nproxy:\n  - {prefix: docker.io, remote: 'http://"+far.addr+"', ttl: 1s}\n")
	near := s.serve(t, "--config", config)
	name := near.addr + "/docker.io/library-app:1"
	p := podman(t)
	tool(t, with(p, "pull", "-q", "--tls-verify=false", name)...)
	if got := strings.TrimSpace(tool(t, with(p, "image", "inspect", "-f", "{{.Id}}", name)...)); "sha256:"+got != id {
		t.Errorf("podman has %s, built was %s", got, id)
	}
	until(t, "it to be kept whole", func() bool { return strings.Contains(near.get(t, "/v2/_catalog"), "docker.io/library-app") })
	if got := near.get(t, "/v2/docker.io/none/manifests/1"); !strings.HasSuffix(got, "404") {
		t.Errorf("what is nowhere: %s", got)
	}
	if code := far.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, far.out)
	}
	tool(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+name, "oci:"+t.TempDir()+":x")
	if got := near.get(t, "/v2/docker.io/other/manifests/1"); !strings.HasSuffix(got, "502") || !strings.Contains(got, `"errors"`) {
		t.Errorf("what is not here: %s", got)
	}
	refused(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+name, "docker://"+near.addr+"/docker.io/mine:1")
	// What is a copy can be kept under a name of one's own.
	tool(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+name, "docker://"+near.addr+"/mine:1")
}
