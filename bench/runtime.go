package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// nothing is the builder that supports nothing, for those that only run containers.
type nothing struct{}

func (nothing) version() string                            { return "" }
func (nothing) start() error                               { return nil }
func (nothing) reset() error                               { return errors.ErrUnsupported }
func (nothing) build(string, string, string) (cost, error) { return cost{}, errors.ErrUnsupported }
func (nothing) base(string, string, string) error          { return errors.ErrUnsupported }
func (nothing) add(string, string) error                   { return errors.ErrUnsupported }
func (nothing) pull(string) (cost, error)                  { return cost{}, errors.ErrUnsupported }
func (nothing) push(string, string) (cost, error)          { return cost{}, errors.ErrUnsupported }
func (nothing) save(string, string) (cost, error)          { return cost{}, errors.ErrUnsupported }
func (nothing) close() error                               { return nil }

// optional tells that a builder is of no use to most workloads, and may be missing.
func (nothing) optional() {}

// ociRuntime is an OCI runtime by itself, on a root that is unpacked and stays: what it does
// podman and docker do besides images, layers and records.
type ociRuntime struct {
	nothing
	program, dir, basis string
}

func newRuntime(program, stores, basis string) *ociRuntime {
	return &ociRuntime{program: program, dir: filepath.Join(stores, program), basis: basis}
}

func (r *ociRuntime) name() string { return r.program }

func (r *ociRuntime) version() string {
	return output("sh", "-c", r.program+` --version | sed -n '1s/.*version //p'`) + ", no image"
}

// start makes the bundle: a root and config.json of the runtime's own making, with the host's network
// as the others have it.
func (r *ociRuntime) start() error {
	if err := os.MkdirAll(r.dir+"/rootfs", 0o755); err != nil {
		return err
	}
	if err := quiet("tar", "-xf", r.basis, "-C", r.dir+"/rootfs"); err != nil {
		return err
	}
	if err := quiet("sh", "-c", fmt.Sprintf("cd %q && %s spec", r.dir, r.program)); err != nil {
		return err
	}
	data, err := os.ReadFile(r.dir + "/config.json")
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	process, ok := spec["process"].(map[string]any)
	linux, ok2 := spec["linux"].(map[string]any)
	if !ok || !ok2 {
		return errors.New("config.json has no process and linux")
	}
	process["terminal"], process["args"] = false, []string{"true"}
	var kept []any
	spaces, _ := linux["namespaces"].([]any)
	for _, n := range spaces {
		if m, _ := n.(map[string]any); m["type"] != "network" {
			kept = append(kept, n)
		}
	}
	linux["namespaces"] = kept
	if data, err = json.Marshal(spec); err != nil {
		return err
	}
	if err := os.WriteFile(r.dir+"/config.json", data, 0o644); err != nil {
		return err
	}
	_, err = r.run("")
	return err
}

func (r *ociRuntime) run(string) (cost, error) {
	id := fmt.Sprintf("bench-%d", os.Getpid())
	return measure(exec.Command(r.program, "--root", r.dir+"/state", "run", "-b", r.dir, id), 0)
}

func (r *ociRuntime) close() error { return os.RemoveAll(r.dir) }
