package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// podman is podman with a storage of its own, so that nothing of this machine is touched.
func podman(t testing.TB) []string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "nacre-podman-") // podman takes no --runroot of more than 50 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return []string{"podman", "--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp", "--storage-driver", "vfs",
		"--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc"} // crun refuses machines that have both versions of cgroups
}

func with(cmd []string, args ...string) []string { return append(append([]string{}, cmd...), args...) }

// sample builds an image with what gets lost easily: several layers, a deleted file, a
// hard link, an owner, a mode, a link to a folder, an empty layer's history.
func sample(t testing.TB, s *store, tag string) (id string) {
	t.Helper()
	dir := writeFiles(t, map[string]string{"hello": "hello\n", "Dockerfile": `FROM busybox
COPY --chown=33:100 --chmod=640 hello /srv/hello
RUN ln /srv/hello /srv/again && ln -s srv /link && mkdir -m 1777 /srv/open && rm /etc/group && chmod 4755 /bin/su
ENV GREETING=hello
LABEL org.example.sample=yes
CMD ["cat", "/srv/again"]
`})
	s.build(t, tag, dir)
	return s.inspect(t, tag, "{{.Id}}")
}

// look prints what a container of the image sees of the sample.
const look = `stat -c '%n %u:%g %a %h' /srv/hello /srv/again /srv/open /bin/su; readlink /link; ls /etc; echo $GREETING`

func TestSaveLoad(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	id := sample(t, s, "sample:1")
	s.ok(t, "tag", "sample:1", "registry.example/team/sample:2")
	want := s.ok(t, "run", "--rm", "--network", "none", "sample:1", "sh", "-c", look)
	if !strings.Contains(want, "/bin/su") || strings.Contains(want, "group") {
		t.Fatalf("the sample itself is wrong: %s", want)
	}
	tar := filepath.Join(t.TempDir(), "a.tar")
	s.ok(t, "save", "-o", tar, "sample:1", "registry.example/team/sample:2", "busybox")

	again := newStore(t)
	out := again.ok(t, "load", "-i", tar)
	for _, line := range []string{"Loaded image: sample:1", "Loaded image: registry.example/team/sample:2", "Loaded image: busybox:latest"} {
		if !strings.Contains(out, line) {
			t.Errorf("load says %q, without %q", out, line)
		}
	}
	if got := again.inspect(t, "sample:1", "{{.Id}}"); got != id {
		t.Errorf("the image's id was %s and is %s", id, got)
	}
	if got := again.ok(t, "run", "--rm", "--network", "none", "sample:1", "sh", "-c", look); got != want {
		t.Errorf("it looks like\n%s\nand was\n%s", got, want)
	}
	// The same image saved again is the same file, wherever it is saved.
	tar2 := filepath.Join(t.TempDir(), "b.tar")
	again.ok(t, "save", "-o", tar2, "sample:1", "registry.example/team/sample:2", "busybox")
	tool(t, "cmp", tar, tar2)
	again.check(t)

	t.Run("through pipes and compressed", func(t *testing.T) {
		for _, compress := range []string{"gzip -1", "zstd -1", "xz -0", "bzip2 -1"} {
			piped := newStore(t)
			out := tool(t, "sh", "-c", `"$0" --root "$1" save sample:1 | `+compress+` | "$0" --root "$2" load`, nacre, s.root, piped.root)
			if !strings.Contains(out, "Loaded image: sample:1") || piped.inspect(t, "sample:1", "{{.Id}}") != id {
				t.Errorf("%s: %s", compress, out)
			}
		}
	})
}

func TestSkopeo(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	id := sample(t, s, "sample:1")
	dir := t.TempDir()
	tar := filepath.Join(dir, "a.tar")
	s.ok(t, "save", "-o", tar, "sample:1")
	for _, medium := range []string{"docker-archive:" + tar, "oci-archive:" + tar} {
		var seen struct {
			Layers []string
			Labels map[string]string
			Env    []string
		}
		if err := json.Unmarshal([]byte(tool(t, "skopeo", "inspect", medium)), &seen); err != nil {
			t.Fatal(err)
		}
		if len(seen.Layers) != 3 || seen.Labels["org.example.sample"] != "yes" {
			t.Errorf("skopeo sees %+v in %s", seen, medium)
		}
		config := tool(t, "skopeo", "inspect", "--config", "--raw", medium)
		sum := tool(t, "sh", "-c", `printf %s "$0" | sha256sum | cut -c -64`, config)
		if "sha256:"+sum != id {
			t.Errorf("%s: the config hashes to %s, the image is %s", medium, sum, id)
		}
	}
	// And back: what skopeo makes of it loads, as either kind, and is the same image.
	for _, medium := range []string{"docker-archive:" + dir + "/docker.tar:sample:3", "oci-archive:" + dir + "/oci.tar:sample:3"} {
		tool(t, "skopeo", "--insecure-policy", "copy", "oci-archive:"+tar, medium)
	}
	for _, name := range []string{"docker.tar", "oci.tar"} {
		again := newStore(t)
		again.ok(t, "load", "-i", filepath.Join(dir, name))
		if got := again.inspect(t, "sample:3", "{{.Id}}"); got != id {
			t.Errorf("%s: the image is %s, was %s", name, got, id)
		}
	}
}

func TestPodman(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	id := sample(t, s, "sample:1")
	want := s.ok(t, "run", "--rm", "--network", "none", "sample:1", "sh", "-c", look)
	dir := t.TempDir()
	s.ok(t, "save", "-o", dir+"/a.tar", "sample:1")

	pod := podman(t)
	tool(t, with(pod, "load", "-q", "-i", dir+"/a.tar")...)
	if got := tool(t, with(pod, "inspect", "--type", "image", "-f", "sha256:{{.Id}}", "sample:1")...); got != id {
		t.Errorf("podman knows it as %s, it is %s", got, id)
	}
	// The limits podman asks for by itself are more than some machines' root may have.
	run := with(pod, "run", "--rm", "--network", "host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "sample:1")
	if got := tool(t, run...); got != "hello" {
		t.Errorf("podman run says %q", got)
	}
	got := tool(t, with(run, "sh", "-c", look)...)
	if files := func(s string) string { before, _, _ := strings.Cut(s, "\nsrv\n"); return before }; files(got) != files(want) {
		t.Errorf("in podman it looks like\n%s\nhere like\n%s", got, want)
	}

	// What podman saves loads here, and keeps its digests.
	digest := tool(t, with(pod, "inspect", "--type", "image", "-f", "{{.Digest}}", "sample:1")...)
	for _, format := range []string{"docker-archive", "oci-archive"} {
		file := filepath.Join(dir, format+".tar")
		tool(t, with(pod, "save", "-q", "--format", format, "-o", file, "sample:1")...)
		again := newStore(t)
		// Versions of podman differ in what the name was in full.
		_, name, _ := strings.Cut(again.ok(t, "load", "-i", file), "Loaded image: ")
		if !strings.HasSuffix(name, "sample:1") {
			t.Errorf("%s: it is loaded as %q", format, name)
		}
		if got := again.inspect(t, name, "{{.Id}}"); got != id && format == "docker-archive" {
			t.Errorf("%s: the image is %s, was %s", format, got, id)
		}
		if format == "oci-archive" {
			index := tool(t, "tar", "-xOf", file, "index.json")
			var idx struct{ Manifests []struct{ Digest string } }
			if err := json.Unmarshal([]byte(index), &idx); err != nil || len(idx.Manifests) != 1 {
				t.Fatalf("podman's index: %s", index)
			}
			if got := again.ok(t, "images", "--digests", "--no-trunc", "--format", "{{.Digest}}"); got != idx.Manifests[0].Digest {
				t.Errorf("the manifest is %s in podman's archive, %s here (podman: %s)", idx.Manifests[0].Digest, got, digest)
			}
		}
		if got := again.ok(t, "run", "--rm", "--network", "none", name, "sh", "-c", look); got != want {
			t.Errorf("%s: it looks like\n%s\nand was\n%s", format, got, want)
		}
	}
}

func TestUmoci(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	sample(t, s, "sample:1")
	dir := t.TempDir()
	s.ok(t, "save", "-o", dir+"/a.tar", "sample:1")
	os.Mkdir(dir+"/layout", 0o755)
	tool(t, "tar", "-xf", dir+"/a.tar", "-C", dir+"/layout")
	tool(t, "umoci", "unpack", "--image", dir+"/layout:1", dir+"/bundle")
	root := dir + "/bundle/rootfs"
	got := tool(t, "stat", "-c", "%n %u:%g %a %h", root+"/srv/hello", root+"/srv/again", root+"/srv/open", root+"/bin/su")
	want := strings.ReplaceAll(`R/srv/hello 33:100 640 2
R/srv/again 33:100 640 2
R/srv/open 0:0 1777 2
R/bin/su 0:0 4755 `, "R", root)
	if !strings.HasPrefix(got, want) {
		t.Errorf("umoci unpacks\n%s, wanted\n%s", got, want)
	}
	if _, err := os.Lstat(root + "/etc/group"); err == nil {
		t.Error("a deleted file is there again")
	}
}
