package bundle

import (
	"fmt"

	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// StatePaused is the state of a container that stands still. The specification has no such state; runc has this.
const StatePaused specs.ContainerState = "paused"

// Pause stops all processes of a container. Errors: ErrNotFound, ErrNotRunning, ErrNoFreezer.
func (r Runtime) Pause(id string) error { return r.freeze(id, true) }

// Resume lets them go on. Errors: those of Pause.
func (r Runtime) Resume(id string) error { return r.freeze(id, false) }

func (r Runtime) freeze(id string, frozen bool) error {
	c, err := r.open(id)
	if err != nil {
		return err
	}
	defer c.close()
	switch s := c.status(); {
	case s == specs.StateStopped:
		return fmt.Errorf("container %s is %s: %w", id, s, ErrNotRunning)
	case !frozen && s != StatePaused:
		return fmt.Errorf("container %s is %s, and not paused", id, s)
	}
	dir := sandbox.FreezerOf(c.Cgroups)
	if dir == "" {
		return fmt.Errorf("container %s: %w", id, ErrNoFreezer)
	}
	if err := sandbox.Freeze(dir, frozen); err != nil {
		if frozen {
			sandbox.Freeze(dir, false)
		}
		return fmt.Errorf("container %s: %w", id, err)
	}
	return nil
}

func (c *container) isPaused() bool {
	dir := sandbox.FreezerOf(c.Cgroups)
	return dir != "" && sandbox.Frozen(dir)
}

// thaw lets go on what was told to end.
func (c *container) thaw() {
	if c.isPaused() {
		sandbox.Freeze(sandbox.FreezerOf(c.Cgroups), false)
	}
}
