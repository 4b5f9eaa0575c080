package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// hub is the registry that all builders push to and pull from: Debian's docker-registry,
// which favours none of them. It runs from the first workload to the last.
var hub struct {
	server *server
	hubNames
}

// hubNames makes names of images in the hub.
type hubNames struct{ addr string } // 127.0.0.1:PORT

// name is another repository for each builder and round, so that nothing of what is pushed is there.
func (h hubNames) name(what string, b builder, round int) string {
	return fmt.Sprintf("%s/%s-%s-%d", h.addr, what, strings.ReplaceAll(b.name(), " ", "-"), round)
}

// startHub starts it with an empty folder.
func startHub(dir string) error {
	if _, err := exec.LookPath("docker-registry"); err != nil {
		return errors.New("docker-registry is not installed: scripts/setup tools bench does it")
	}
	folder, err := os.MkdirTemp(dir, "hub-")
	if err != nil {
		return err
	}
	s := &server{name: "docker-registry", command: distribution}
	if err := s.start(filepath.Join(folder, "registry")); err != nil {
		return err
	}
	hub.server, hub.addr = s, strings.TrimPrefix(s.url, "http://")
	return nil
}

func stopHub() {
	_ = hub.server.stop()
	_ = os.RemoveAll(filepath.Dir(hub.server.dir))
	hub.server = nil
}

const (
	bigLayers = 10
	bigLayer  = 100_000_000
)

var w6 = workload{
	name: "W6", title: "W6: pull",
	cases: []caseInfo{
		{
			title: "pull of Debian, one layer of 122 MB, ready to run", floor: "fetch, gunzip, sha256",
			goal: map[string]float64{"docker": 1.9, "buildah": 2.3, "podman": 2.3, "buildkit": 1.96},
		},
		{
			title: "pull of ten layers of 100 MB, ready to run", floor: "fetch, gunzip, sha256, two layers at once",
			goal:  map[string]float64{"docker": 3.8, "buildah": 4.1, "podman": 4.1, "buildkit": 4},
			notes: []string{"buildkit fetches nothing that no step needs: its pull is a build of RUN true."},
		},
	},
	prepare: prepareW6, round: roundW6, floor: floorW6,
}

// pulled are the images of W6.
var pulled = []string{"debian", "big"}

// prepareBig makes the context of an image of ten layers of 100 MB, which compress to some
// 60 percent, as programs do.
func prepareBig(dir string) error {
	ready, done, err := prepared(dir)
	if err != nil || ready {
		return err
	}
	var dockerfile strings.Builder
	dockerfile.WriteString("FROM busybox\n")
	if err := os.MkdirAll(filepath.Join(dir, "ctx"), 0o755); err != nil {
		return err
	}
	for i := range bigLayers {
		fmt.Fprintf(&dockerfile, "COPY part%d /part%d\n", i, i)
		if err := writeBig(filepath.Join(dir, "ctx", fmt.Sprintf("part%d", i)), uint64(900+i)); err != nil {
			return err
		}
	}
	if err := write(dir, map[string]string{"Dockerfile": dockerfile.String()}); err != nil {
		return err
	}
	return done()
}

// writeBig goes by small pieces: the kernel counts a parent's largest memory as its child's, when
// a builder is started later.
func writeBig(file string, seed uint64) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	noise, buf := newNoise(seed), make([]byte, 100_000)
	for n := 0; n < scaled(bigLayer) && err == nil; n += len(buf) {
		noise.fill(buf)
		for j := range buf {
			buf[j] = buf[j]&0x1f | 0x60
		}
		_, err = f.Write(buf)
	}
	return errors.Join(err, f.Close())
}

// prepareW6 has the images to pull pushed to the hub, by nacre, with gzip.
func prepareW6(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	big := filepath.Join(filepath.Dir(dir), "big")
	if err := prepareBig(big); err != nil {
		return err
	}
	tar, err := debianBase()
	if err != nil {
		return err
	}
	n := newNacre(program, filepath.Join(filepath.Dir(dir), "w6-store"), busybox)
	defer n.close()
	if err := n.reset(); err != nil {
		return err
	}
	if err := n.add(tar, "debian"); err != nil {
		return err
	}
	if err := n.base(big+"/ctx", big+"/Dockerfile", "big"); err != nil {
		return err
	}
	for _, name := range pulled {
		if _, err := n.push(name, hub.addr+"/"+name); err != nil {
			return err
		}
	}
	return nil
}

func roundW6(_ string, b builder, _ int) ([]cost, error) {
	var costs []cost
	for _, name := range pulled {
		if err := b.reset(); err != nil {
			return nil, err
		}
		settle()
		c, err := b.pull(hub.addr + "/" + name)
		if err != nil {
			return nil, err
		}
		costs = append(costs, c)
	}
	return costs, nil
}

// floorW6 fetches the layers themselves.
func floorW6(string, int) ([]cost, error) {
	var costs []cost
	for _, name := range pulled {
		data, err := get("http://" + hub.addr + "/v2/" + name + "/manifests/latest")
		if err != nil {
			return nil, err
		}
		var m struct{ Layers []struct{ Digest string } }
		if err := json.Unmarshal(data, &m); err != nil {
			return nil, err
		}
		args := []string{"fetch"}
		for _, l := range m.Layers {
			args = append(args, "http://"+hub.addr+"/v2/"+name+"/blobs/"+l.Digest)
		}
		c, err := floorOf(args...)
		if err != nil {
			return nil, err
		}
		costs = append(costs, c)
	}
	return costs, nil
}

var w9 = workload{
	name: "W9", title: "W9: save",
	cases: []caseInfo{{
		title: "save of a built image of ten layers of 100 MB", floor: "copy_file_range of the same bytes",
	}},
	prepare: func(dir string) error {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		return prepareBig(filepath.Join(filepath.Dir(dir), "big"))
	},
	round: roundW9,
	floor: func(dir string, _ int) ([]cost, error) {
		out := dir + "/floor"
		defer os.Remove(out)
		settle()
		c, err := floorOf("copy", filepath.Join(filepath.Dir(dir), "big/ctx"), out)
		return []cost{c}, err
	},
}

// roundW9 builds once and saves in every round.
func roundW9(dir string, b builder, round int) ([]cost, error) {
	big := filepath.Join(filepath.Dir(dir), "big")
	if round == 0 {
		if err := b.reset(); err != nil {
			return nil, err
		}
		if _, err := b.build(big+"/ctx", big+"/Dockerfile", "big"); err != nil {
			return nil, err
		}
	}
	file := filepath.Join(dir, "saved.tar")
	defer os.Remove(file)
	settle()
	c, err := b.save("big", file)
	return []cost{c}, err
}
