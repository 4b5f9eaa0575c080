package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// buildkit is a buildkitd of our own and buildctl. Its image stays in the daemon's store, with
// layers as uncompressed blobs, which is what nacre keeps; without export there would be no
// layers at all, with its default they would be compressed. It knows no local base images: those
// are OCI layouts, which the client names with each build.
type buildkit struct {
	dir, basis string
	daemon     *daemon
	bases      map[string]string   // name: digest of the index.json's manifest
	built      map[string][]string // what to ask again for a push, by tag
}

func newBuildkit(stores, basis string) *buildkit {
	return &buildkit{dir: filepath.Join(stores, "buildkit"), basis: basis, bases: map[string]string{}, built: map[string][]string{}}
}

func (b *buildkit) cmd(args ...string) []string {
	return append([]string{"buildctl", "--addr", "unix://" + b.dir + "/sock"}, args...)
}

func (b *buildkit) do(args ...string) (cost, error) {
	argv := b.cmd(args...)
	return measure(exec.Command(argv[0], argv[1:]...), b.daemon.pid())
}

func (b *buildkit) name() string { return "buildkit" }

func (b *buildkit) version() string {
	return strings.Fields(output("buildkitd", "--version") + " ? ? ?")[2]
}

func (b *buildkit) start() error {
	if err := os.MkdirAll(b.dir, 0o711); err != nil {
		return err
	}
	// Nothing is collected while it is measured.
	config := filepath.Join(b.dir, "buildkitd.toml")
	text := fmt.Sprintf("root = %q\n[worker.oci]\ngc = false\n[worker.containerd]\nenabled = false\n[registry.%q]\nhttp = true\n", b.dir+"/data", hub.addr)
	err := os.WriteFile(config, []byte(text), 0o644)
	if err != nil {
		return err
	}
	answers := func() bool { return quiet(b.cmd("debug", "workers")...) == nil }
	b.daemon, err = startDaemon(filepath.Join(b.dir, "log"), answers,
		"buildkitd", "--config", config, "--addr", "unix://"+b.dir+"/sock", "--oci-worker-net", "host",
		"--oci-worker-snapshotter", "overlayfs", "--allow-insecure-entitlement", "network.host")
	if err != nil {
		return err
	}
	return b.add(b.basis, "busybox")
}

func (b *buildkit) reset() error {
	clear(b.built)
	return quiet(b.cmd("prune", "--all")...)
}

// args of a build without its output.
func (b *buildkit) args(dir, dockerfile string) []string {
	args := []string{"build", "--progress", "plain", "--frontend", "dockerfile.v0", "--local", "context=" + dir,
		"--local", "dockerfile=" + filepath.Dir(dockerfile), "--opt", "filename=" + filepath.Base(dockerfile)}
	for name, digest := range b.bases {
		args = append(args, "--oci-layout", name+"="+b.layout(name), "--opt", "context:"+name+"=oci-layout://"+name+"@"+digest)
	}
	return args
}

func (b *buildkit) build(dir, dockerfile, tag string) (cost, error) {
	b.built[tag] = b.args(dir, dockerfile)
	return b.do(append(b.args(dir, dockerfile), "--output", "type=image,name="+tag+",compression=uncompressed")...)
}

func (b *buildkit) layout(name string) string { return filepath.Join(b.dir, "base-"+name) }

func (b *buildkit) base(dir, dockerfile, tag string) error {
	delete(b.bases, tag)
	if err := os.RemoveAll(b.layout(tag)); err != nil {
		return err
	}
	if err := quiet(b.cmd(append(b.args(dir, dockerfile), "--output", "type=oci,tar=false,compression=uncompressed,name="+tag+",dest="+b.layout(tag))...)...); err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(b.layout(tag), "index.json"))
	if err != nil {
		return err
	}
	var index struct{ Manifests []struct{ Digest string } }
	if err := json.Unmarshal(data, &index); err != nil || len(index.Manifests) == 0 {
		return errors.Join(fmt.Errorf("%s names no manifest", b.layout(tag)), err)
	}
	b.bases[tag] = index.Manifests[0].Digest
	return nil
}

func (b *buildkit) add(tar, tag string) error {
	if b.bases[tag] != "" {
		return nil
	}
	dir := filepath.Join(b.dir, "add")
	defer os.RemoveAll(dir)
	if err := write(dir, map[string]string{"Dockerfile": "FROM scratch\nADD base.tar /\n" + pathOf + "\n"}); err != nil {
		return err
	}
	if err := quiet("cp", tar, dir+"/base.tar"); err != nil {
		return err
	}
	return b.base(dir, dir+"/Dockerfile", tag)
}

// pull is a build that runs true in the image: it fetches no layer that nothing needs.
func (b *buildkit) pull(ref string) (cost, error) {
	dir := filepath.Join(b.dir, "pull")
	if err := write(dir, map[string]string{"Dockerfile": "FROM " + ref + "\nRUN true\n"}); err != nil {
		return cost{}, err
	}
	return b.do(b.args(dir, dir+"/Dockerfile")...)
}

// push is the same build once more, all of it cached, with another output.
func (b *buildkit) push(tag, ref string) (cost, error) {
	return b.do(append(slices.Clone(b.built[tag]), "--output", "type=image,push=true,name="+ref)...)
}

func (b *buildkit) save(tag, file string) (cost, error) {
	return b.do(append(slices.Clone(b.built[tag]), "--output", "type=docker,compression=uncompressed,name="+tag+",dest="+file)...)
}

func (b *buildkit) run(string) (cost, error) { return cost{}, errors.ErrUnsupported }

func (b *buildkit) close() error {
	b.daemon.stop()
	return os.RemoveAll(b.dir)
}
