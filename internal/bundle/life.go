package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Start has a container that waits execute its program. Errors: ErrNotFound, ErrNotCreated; *sandbox.StartError.
func (r Runtime) Start(ctx context.Context, id string) error {
	c, err := r.open(id)
	if err != nil {
		return err
	}
	defer c.close()
	if s := c.status(); s != specs.StateCreated {
		return fmt.Errorf("container %s is %s: %w", id, s, ErrNotCreated)
	}
	socket := filepath.Join(c.dir, startFile)
	if err := sandbox.Start(ctx, socket); err != nil {
		c.await()
		return err
	}
	os.Remove(socket)
	c.Started = true
	if err := c.save(); err != nil {
		return err
	}
	if err := c.hooks(ctx, "poststart", specs.StateRunning); err != nil {
		c.kill(syscall.SIGKILL)
		return err
	}
	return nil
}

func (c *container) hooks(ctx context.Context, kind string, status specs.ContainerState) error {
	s := c.state()
	s.Status, s.Pid = status, c.Pid
	return sandbox.Hooks(ctx, c.spec.Hooks, kind, s)
}

// State is the state of a container. Errors: ErrNotFound.
func (r Runtime) State(id string) (*specs.State, error) {
	c, err := r.open(id)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return c.state(), nil
}

// Listed is a container of a list.
type Listed struct {
	specs.State
	Root    string    `json:"rootfs"`
	Created time.Time `json:"created"`
}

// List lists containers by ID.
func (r Runtime) List() ([]Listed, error) {
	entries, err := os.ReadDir(r.Root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []Listed
	for _, e := range entries {
		c, err := r.open(e.Name())
		if errors.Is(err, ErrNotFound) {
			continue // being made, or deleted
		}
		if err != nil {
			return nil, err
		}
		out = append(out, Listed{*c.state(), c.Root, c.Created})
		c.close()
	}
	return out, nil
}

// Kill sends a signal to a container's first process, or to all of it. Errors: ErrNotFound, ErrNotRunning.
func (r Runtime) Kill(id string, sig syscall.Signal, all bool) error {
	c, err := r.open(id)
	if err != nil {
		return err
	}
	defer c.close()
	if all {
		for _, pid := range members(c.Cgroups) {
			unix.Kill(pid, sig)
		}
	}
	if s := c.status(); s == specs.StateStopped {
		if all {
			return nil
		}
		return fmt.Errorf("container %s is %s: %w", id, s, ErrNotRunning)
	}
	err = c.kill(sig)
	if sig == syscall.SIGKILL {
		c.thaw() // to die
	}
	return err
}

// kill sends a signal to the first process, and to no other that has got its number.
func (c *container) kill(sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(c.Pid, 0)
	if err == nil {
		defer unix.Close(fd)
		if c.status() == specs.StateStopped {
			return nil
		}
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("container %s: signal: %w", c.ID, err)
	}
	return nil
}

// Delete removes what is left of a container that has ended; with force it is ended first, and one that does not exist is no error.
// Errors: ErrNotFound, ErrNotStopped.
func (r Runtime) Delete(ctx context.Context, id string, force bool) error {
	c, err := r.open(id)
	if force && errors.Is(err, ErrNotFound) {
		return r.removeHalfMade(id)
	}
	if err != nil {
		return err
	}
	defer c.close()
	if s := c.status(); s != specs.StateStopped && !force {
		return fmt.Errorf("container %s is %s: %w", id, s, ErrNotStopped)
	}
	c.end(ctx)
	err = c.hooks(ctx, "poststop", specs.StateStopped)
	if rerr := os.RemoveAll(c.dir); rerr != nil {
		return rerr
	}
	return warning(err)
}

// removeHalfMade removes the folder of a container whose making was interrupted, if there is one. It waits where one is being made.
func (r Runtime) removeHalfMade(id string) error {
	dir := filepath.Join(r.Root, id)
	f, err := lock(dir, os.O_RDWR)
	if err == nil {
		defer f.Close()
		if _, err := os.Stat(filepath.Join(dir, recordFile)); err == nil {
			return fmt.Errorf("container %s: it was made just now", id)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

// Warning is what went wrong in something that was done all the same.
type Warning struct{ Err error }

func (w *Warning) Error() string { return w.Err.Error() }
func (w *Warning) Unwrap() error { return w.Err }

func warning(err error) error {
	if err == nil {
		return nil
	}
	return &Warning{err}
}

// end kills a container and removes its cgroups.
func (c *container) end(context.Context) {
	c.kill(syscall.SIGKILL)
	c.thaw()
	c.await()
	sandbox.RemoveCgroups(c.Cgroups)
}

// await waits for the end of the first process, which is somebody else's child: a moment at most, as it was killed.
func (c *container) await() {
	for range 1000 { // 10 s
		if c.status() == specs.StateStopped {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// members are the processes of cgroups, each once.
func members(dirs []string) (pids []int) {
	for _, dir := range dirs {
		text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, f := range strings.Fields(string(text)) {
			var pid int
			if _, err := fmt.Sscan(f, &pid); err == nil && pid > 1 && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
