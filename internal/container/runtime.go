package container

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"nacre/internal/sandbox"
)

// runtimeDir is the folder, in a container's own, of what another OCI runtime keeps of it.
const runtimeDir = "runtime"

// CheckRuntime looks whether a container can be run by the runtime it is to be run by.
func (c *Config) CheckRuntime() error {
	name := c.Security.Runtime
	if name == "" {
		return nil
	}
	if c.Security.Userns != "" {
		return errors.New("--userns and --runtime do not go together: other runtimes cannot map the ids of the layers")
	}
	_, err := sandbox.FindRuntime(name)
	return err
}

// runtime is the other OCI runtime that runs the container; nil: this program does.
func (c *Container) runtime() (*sandbox.Runtime, error) {
	name := c.Config.Security.Runtime
	if name == "" {
		return nil, nil
	}
	path, err := sandbox.FindRuntime(name)
	if err != nil {
		return nil, err
	}
	return &sandbox.Runtime{Path: path, Dir: filepath.Join(c.dir, runtimeDir), ID: c.ID}, nil
}

// runWith is sandbox.Run, or that of the container's runtime.
func (m *monitor) runWith(ctx context.Context, config sandbox.Config) (sandbox.Status, error) {
	if m.runtime != nil {
		return m.runtime.Run(ctx, config)
	}
	return sandbox.Run(ctx, config)
}

// execWith is sandbox.Exec, or that of the container's runtime.
func (m *monitor) execWith(ctx context.Context, config sandbox.ExecConfig) (sandbox.Status, error) {
	if m.runtime != nil {
		return m.runtime.Exec(ctx, config)
	}
	return sandbox.Exec(ctx, config)
}

// pauseWith has the runtime stop all processes of the container.
func (m *monitor) pauseWith(cgroups []string) error {
	// It is noted first: were we killed, others find what to thaw.
	if err := m.set(func(now *State) { now.Freezer = sandbox.FreezerOf(cgroups) }); err != nil {
		return err
	}
	err := m.runtime.Pause(context.Background())
	switch {
	case err != nil && len(cgroups) == 0:
		return fmt.Errorf("the container cannot be paused here: it has no cgroup, which systemd-run --user --scope -p Delegate=yes COMMAND can give: %w", err)
	case err != nil:
		return err
	}
	return m.set(func(now *State) {
		if now.Status == StatusRunning { // else it ended meanwhile
			now.Status = StatusPaused
		}
	})
}

// thawWith is the end of pauseWith.
func (m *monitor) thawWith() error {
	if !m.isPaused() {
		return nil
	}
	if err := m.runtime.Resume(context.Background()); err != nil {
		return err
	}
	return m.set(func(st *State) {
		if st.Status == StatusPaused {
			st.Status = StatusRunning
		}
	})
}
