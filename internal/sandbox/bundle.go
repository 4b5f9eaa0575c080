package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// bundle is the directory that hooks learn of by the container's state: config.json is
// the spec, whose root.path is the root. Only a sandbox with hooks has one.
//
// The directory has one path in all namespaces. In the sandbox's mount namespace it is
// covered by the scratch file system, with a copy of config.json and the root in it. On the host
// the root is a link there through /proc, as nothing of it is mounted on the host; it leads
// nowhere any more once the sandbox has left the host's files behind.
type bundle struct {
	id    string
	dir   string
	given bool // the directory is somebody else's: see Detach
	hooks hooks
	pid   int // of the sandbox's process; 0 once it has ended
	spec  *specs.Spec
}

// bundleRoot and bundleConfig are names in a bundle.
const (
	bundleRoot   = "root"
	bundleConfig = "config.json"
)

// newBundle makes the directory; nil without hooks. It also becomes the plan's scratch directory.
func newBundle(s *specs.Spec, p *plan) (*bundle, error) {
	all, err := newHooks(s.Hooks)
	if all == nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(p.Scratch), fmt.Sprintf("nacre-%d-*", os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("make bundle for hooks: %w", err)
	}
	config := *s
	config.Root = &specs.Root{Path: path.Join(dir, bundleRoot), Readonly: p.ReadonlyRoot}
	if p.Config, err = json.Marshal(&config); err == nil {
		err = os.WriteFile(filepath.Join(dir, bundleConfig), p.Config, 0o600) // secrets may be among its variables
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("make bundle for hooks: %w", err)
	}
	p.Scratch = dir
	p.RuntimeHooks = len(all[hookPrestart])+len(all[hookCreateRuntime]) > 0
	p.CreateHooks, p.StartHooks = all[hookCreateContainer], all[hookStartContainer]
	return &bundle{id: filepath.Base(dir), dir: dir, hooks: all, spec: s}, nil
}

// givenBundle is for a sandbox that was made of a bundle.
func givenBundle(s *specs.Spec, p *plan, d Detach) (*bundle, error) {
	all, err := newHooks(s.Hooks)
	if all == nil {
		return nil, err
	}
	p.RuntimeHooks = len(all[hookPrestart])+len(all[hookCreateRuntime]) > 0
	p.CreateHooks, p.StartHooks = all[hookCreateContainer], all[hookStartContainer]
	return &bundle{id: d.ID, dir: d.Bundle, given: true, hooks: all, spec: s}, nil
}

// attach completes the bundle and the plan by the process that the sandbox has become.
func (b *bundle) attach(p *plan, pid int) (err error) {
	b.pid = pid
	inside := pid
	if cloneFlags(b.spec)&unix.CLONE_NEWPID != 0 {
		inside = 1
	}
	if p.CreateState, err = b.state(specs.StateCreating, inside); err != nil {
		return err
	}
	if p.StartState, err = b.state(specs.StateCreated, inside); err != nil {
		return err
	}
	if b.given {
		return nil
	}
	root := filepath.Join(b.dir, bundleRoot)
	return os.Symlink(fmt.Sprintf("/proc/%d/root%s", pid, root), root)
}

// state is what hooks read (runtime.md of the runtime spec, "State").
func (b *bundle) state(status specs.ContainerState, pid int) ([]byte, error) {
	return json.Marshal(&specs.State{
		Version: specs.Version, ID: b.id, Status: status, Pid: pid, Bundle: b.dir, Annotations: b.spec.Annotations,
	})
}

// run runs the hooks of some kinds here, in the runtime's namespaces.
func (b *bundle) run(ctx context.Context, status specs.ContainerState, kinds ...string) error {
	state, err := b.state(status, b.pid)
	if err != nil {
		return fail("state for hooks", err)
	}
	for _, kind := range kinds {
		if err := runHooks(ctx, kind, b.hooks[kind], b.dir, state); err != nil {
			return err
		}
	}
	return nil
}

// poststop runs the hooks that follow the end, all of them, come what may. What fails is a warning.
func (b *bundle) poststop(ctx context.Context) (warnings []string) {
	b.pid = 0
	state, err := b.state(specs.StateStopped, 0)
	if err != nil {
		return []string{err.Error()}
	}
	for _, h := range b.hooks[hookPoststop] {
		if err := runHooks(context.WithoutCancel(ctx), hookPoststop, []hook{h}, b.dir, state); err != nil {
			warnings = append(warnings, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	return warnings
}

// remove removes the directory. The link in it is not followed.
func (b *bundle) remove() { os.RemoveAll(b.dir) }
