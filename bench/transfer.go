package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// hub is the registry that all builders push to and pull from: Debian's docker-registry,
// which favours none of them. It runs from its first use to the end of the benchmark.
var hub struct {
	server *server
	addr   string // 127.0.0.1:PORT
}

// startHub starts it with an empty folder.
func startHub(dir string) error {
	if hub.server != nil {
		return nil
	}
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
	if hub.server == nil {
		return
	}
	_ = hub.server.stop()
	_ = os.RemoveAll(filepath.Dir(hub.server.dir))
	hub.server = nil
}

const (
	bigLayers = 10
	bigLayer  = 100_000_000
)

// prepareBig makes the context of an image of ten layers of 100 MB, which compress to some
// 60 percent, as programs do.
func prepareBig(dir string) error {
	done := filepath.Join(dir, "done-1")
	if _, err := os.Stat(done); err == nil {
		return nil
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
	return os.WriteFile(done, nil, 0o644)
}

// writeBig goes by small pieces: the kernel counts a parent's largest memory as its child's, when
// a builder is started later.
func writeBig(file string, seed uint64) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	noise, buf := newNoise(seed), make([]byte, 100_000)
	for n := 0; n < bigLayer && err == nil; n += len(buf) {
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
	if err := errors.Join(prepareBig(filepath.Join(filepath.Dir(dir), "big")), startHub(filepath.Dir(dir))); err != nil {
		return err
	}
	base, err := exec.Command("scripts/setup", "debian").Output()
	if err != nil {
		return fmt.Errorf("scripts/setup debian: %w", err)
	}
	n := newNacre(program, filepath.Join(filepath.Dir(dir), "w6-store"), busybox)
	defer n.close()
	if err := n.reset(); err != nil {
		return err
	}
	if err := n.add(strings.TrimSpace(string(base)), "debian"); err != nil {
		return err
	}
	big := filepath.Join(filepath.Dir(dir), "big")
	if _, err := n.build(big+"/ctx", big+"/Dockerfile", "big"); err != nil {
		return err
	}
	for _, name := range []string{"debian", "big"} {
		if _, err := n.push(name, hub.addr+"/"+name); err != nil {
			return err
		}
	}
	return nil
}

func roundW6(_ string, b builder, _ int) ([]cost, error) {
	var costs []cost
	for _, name := range []string{"debian", "big"} {
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

func prepareW7(dir string) error {
	return errors.Join(prepareW4(dir), startHub(filepath.Dir(dir)))
}

// roundW7 pushes what was built before, and builds and pushes. The repository is another every
// time, so that nothing of it is there.
func roundW7(dir string, b builder, round int) ([]cost, error) {
	if err := b.reset(); err != nil {
		return nil, err
	}
	if _, err := b.build(dir+"/ctx", dir+"/base.Dockerfile", "w4base"); err != nil {
		return nil, err
	}
	settle()
	built, err := b.build(dir+"/ctx", dir+"/Dockerfile", "w7")
	if err != nil {
		return nil, err
	}
	settle()
	pushed, err := b.push("w7", fmt.Sprintf("%s/w7-%s-%d", hub.addr, b.name(), round))
	if err != nil {
		return nil, err
	}
	both := cost{built.wall + pushed.wall, built.cpu + pushed.cpu, max(built.rss, pushed.rss)}
	return []cost{pushed, both}, nil
}

func prepareW9(dir string) error { return prepareBig(filepath.Join(filepath.Dir(dir), "big")) }

func roundW9(dir string, b builder, round int) ([]cost, error) {
	big := filepath.Join(filepath.Dir(dir), "big")
	if err := b.reset(); err != nil {
		return nil, err
	}
	if _, err := b.build(big+"/ctx", big+"/Dockerfile", "big"); err != nil {
		return nil, err
	}
	file := filepath.Join(filepath.Dir(dir), fmt.Sprintf("saved-%s-%d.tar", b.name(), round))
	defer os.Remove(file)
	settle()
	c, err := b.save("big", file)
	return []cost{c}, err
}
