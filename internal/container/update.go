package container

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"nacre/internal/sandbox"

	"golang.org/x/sys/unix"
)

// Update is what is to be different of a container from now on. Zeros of Resources stay as they are; of these
// limits of memory, processors, processes and block devices can be changed.
type Update struct {
	Resources Resources
	Restart   *RestartPolicy // nil: as it is
}

// Update changes a container, one that runs at once. The warnings say what could not be done besides.
//
// Errors: ErrNotFound; the container is as it was after any.
func (c *Container) Update(ctx context.Context, u Update) (warnings []string, err error) {
	for {
		lock, err := c.lock(ctx)
		if err == nil {
			defer lock.Unlock()
			return nil, c.updateIdle(u)
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil, err
		}
		r, err := c.ask(ctx, request{Op: opUpdate, Update: &u})
		if err == nil {
			return r.Warnings, nil
		}
		if !errors.Is(err, ErrNotRunning) && !errors.Is(err, errNoMonitor) || ctx.Err() != nil {
			return nil, err
		}
		select { // it is about to start, or to end
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// updateIdle is Update of a container that does not run, whose lock the caller has.
func (c *Container) updateIdle(u Update) error {
	if err := c.readConfig(); err != nil {
		return err
	}
	next, err := c.Config.updated(u)
	if err == nil {
		err = c.writeConfig(next)
	}
	if err == nil {
		c.Config = next
	}
	return err
}

func (c *Container) writeConfig(cfg Config) error {
	return writeJSON(filepath.Join(c.dir, configFile), cfg)
}

// updated is a config with what an update says.
func (c Config) updated(u Update) (Config, error) {
	var err error
	if c.Resources, err = c.Resources.updated(u.Resources); err != nil {
		return c, err
	}
	if u.Restart != nil {
		if c.AutoRemove && !u.Restart.None() {
			return c, errors.New("Restart policy cannot be updated because AutoRemove is enabled for the container") //lint:ignore ST1005 docker's words
		}
		c.Restart = *u.Restart
	}
	return c, nil
}

// updated are the limits with those that u has, which must go together.
func (r Resources) updated(u Resources) (Resources, error) {
	if u.Memory > 0 && u.MemorySwap == 0 && r.MemorySwap > 0 && u.Memory > r.MemorySwap {
		return r, errors.New("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time") //lint:ignore ST1005 docker's words
	}
	set(&r.Memory, u.Memory)
	set(&r.MemorySwap, u.MemorySwap)
	set(&r.MemoryReservation, u.MemoryReservation)
	set(&r.CPUShares, u.CPUShares)
	set(&r.CPUPeriod, u.CPUPeriod)
	set(&r.CPUQuota, u.CPUQuota)
	set(&r.CpusetCpus, u.CpusetCpus)
	set(&r.CpusetMems, u.CpusetMems)
	set(&r.PidsLimit, u.PidsLimit)
	set(&r.BlkioWeight, u.BlkioWeight)
	switch {
	case r.MemorySwap != 0 && r.Memory == 0:
		return r, errors.New("a limit of memory and swap needs one of memory")
	case r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return r, errors.New("Minimum memoryswap limit should be larger than memory limit, see usage") //lint:ignore ST1005 docker's words
	case r.Memory > 0 && r.MemoryReservation > r.Memory:
		return r, errors.New("Minimum memory limit can not be less than memory reservation limit, see usage") //lint:ignore ST1005 docker's words
	}
	return r, nil
}

// set is an assignment of what is no zero.
func set[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}

// update is Update of the container that this monitor runs.
func (m *monitor) update(u Update) reply {
	m.updating.Lock()
	defer m.updating.Unlock()
	m.mu.Lock()
	st, old := m.state, m.c.Config
	m.mu.Unlock()
	if !st.Status.Alive() {
		return reply{Error: ErrNotRunning.Error()}
	}
	next, err := old.updated(u)
	if err != nil {
		return reply{Error: err.Error()}
	}
	warnings, err := m.limit(st, next.Resources)
	if err == nil {
		err = m.c.writeConfig(next)
	}
	if err != nil {
		m.limit(st, old.Resources)
		return reply{Error: err.Error()}
	}
	m.mu.Lock()
	m.c.Config.Resources, m.c.Config.Restart = next.Resources, next.Restart
	m.mu.Unlock()
	return reply{Warnings: warnings}
}

// limit sets the limits of the container's processes. One that waits to be started again has none.
func (m *monitor) limit(st State, r Resources) (warnings []string, err error) {
	limits, err := r.limits()
	if st.Status == StatusRestarting || limits == nil {
		return nil, err
	}
	made, warnings, err := sandbox.Limit(st.Cgroups, limits)
	if err != nil || len(made) == 0 {
		return warnings, err
	}
	// They are noted first: were we killed, others find what to remove.
	err = m.set(func(now *State) { now.Cgroups = append(now.Cgroups[:len(now.Cgroups):len(now.Cgroups)], made...) })
	m.mu.Lock()
	m.limits = append(m.limits, made...)
	m.mu.Unlock()
	for _, dir := range made {
		if err == nil {
			err = enterCgroup(dir, st.Pid, st.Cgroups)
		}
	}
	if err != nil {
		err = fmt.Errorf("limit its processes: %w", err)
	}
	return warnings, err
}
