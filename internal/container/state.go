package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"nacre/internal/registry/store"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"

	"golang.org/x/sys/unix"

	"nacre/internal/network"
)

// Status is what a container is doing, in docker's words.
type Status string

// All there are. StatusDead is a container whose folder cannot be read.
const (
	StatusCreated    Status = "created"
	StatusRunning    Status = "running"
	StatusPaused     Status = "paused"
	StatusRestarting Status = "restarting"
	StatusRemoving   Status = "removing"
	StatusExited     Status = "exited"
	StatusDead       Status = "dead"
)

// Alive tells whether there is a monitor at work.
func (s Status) Alive() bool { return s == StatusRunning || s == StatusPaused || s == StatusRestarting }

// State is what became of a container. As JSON it is the file state.json, which the holder of the
// container's lock alone writes.
type State struct {
	Status    Status       `json:"status"`
	Pid       int          `json:"pid,omitempty"`     // of its first process, while that runs
	Monitor   int          `json:"monitor,omitempty"` // pid, while that runs
	Boot      string       `json:"boot,omitempty"`    // of the machine, in which the above was so
	Started   time.Time    `json:"started,omitzero"`
	Finished  time.Time    `json:"finished,omitzero"`
	ExitCode  int          `json:"exitCode"`
	OOMKilled bool         `json:"oomKilled,omitempty"`
	Error     string       `json:"error,omitempty"` // why it did not start, or what else ended it
	Restarts  int          `json:"restarts,omitempty"`
	Stopped   bool         `json:"stopped,omitempty"` // a user ended it: it is not started again by itself
	Warnings  []string     `json:"warnings,omitempty"`
	LogError  string       `json:"logError,omitempty"` // why the log lacks something
	Health    *HealthState `json:"health,omitempty"`
	Cgroups   []string     `json:"cgroups,omitempty"` // directories, while it runs
	Freezer   string       `json:"freezer,omitempty"` // the cgroup by which it was paused
	Network   network.Info `json:"network,omitzero"`  // what it got, while it runs
	// Owner is whose everything is that it made: the one user of its user namespace; nil: it is as it shows.
	Owner *rootfs.Owner `json:"owner,omitempty"`
}

// HealthState is what health checks found.
type HealthState struct {
	Status  string        `json:"status"` // HealthStarting, …
	Failing int           `json:"failing"`
	Log     []HealthCheck `json:"log,omitempty"` // the latest, oldest first
}

// What a container's health may be.
const (
	HealthNone      = "none"
	HealthStarting  = "starting"
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
)

// HealthCheck is one health check.
type HealthCheck struct {
	Start    time.Time
	End      time.Time
	ExitCode int
	Output   string
}

// Names of the files of a container's folder, but for the lock, which is the store's.
const (
	configFile = "container.json"
	stateFile  = "state.json"
	logFile    = "log"
	socketFile = "socket"
)

// bootID identifies this boot of the machine.
var bootID = sync.OnceValue(func() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	for len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	return string(b)
})

// What is said of a container whose monitor is no more.
const (
	errMonitorDied = "its monitor was killed"
	errReboot      = "the machine was restarted"
)

// readState reads a state as it was written.
func readState(dir string) (State, error) {
	var st State
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return st, fmt.Errorf("%s: %w", filepath.Join(dir, stateFile), err)
	}
	return st, nil
}

// loadState reads a state and looks whether it is still so. A container that has lost its monitor has
// ended; the first who notices notes when.
func loadState(dir string) (State, error) {
	st, err := readState(dir)
	if err != nil || !st.Status.Alive() || store.ContainerLocked(dir) {
		return st, err
	}
	lock, err := store.LockContainer(dir)
	if err != nil {
		if errors.Is(err, unix.EAGAIN) { // somebody starts or removes it
			return readState(dir)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return st, err
		}
		return st.lost(), nil // it may not be written to
	}
	defer lock.Close()
	if st, err = readState(dir); err != nil || !st.Status.Alive() {
		return st, err
	}
	thawLost(st.Freezer)
	removeLost(st.Cgroups)
	sandbox.CleanRuntime(context.Background(), filepath.Join(dir, runtimeDir))
	st = st.lost()
	writeState(dir, st) // if it cannot be, the next one will
	return st, nil
}

// lost is the state of a container whose monitor ended without saying so.
func (s State) lost() State {
	s.Error = errMonitorDied
	s.ExitCode = 128 + int(unix.SIGKILL)
	if s.Boot != bootID() {
		s.Error, s.ExitCode = errReboot, 255 // docker's code
	}
	s.Status, s.Pid, s.Monitor, s.Cgroups, s.Freezer = StatusExited, 0, 0, nil, ""
	s.Finished = time.Now().UTC()
	return s
}

// writeState replaces a state. The caller holds the lock.
func writeState(dir string, st State) error {
	return writeJSON(filepath.Join(dir, stateFile), st)
}

// writeJSON replaces a file at once. It is not synced: see docs/formats.md. Where the disk is full it
// writes over the old one, if the blocks that has are enough.
func writeJSON(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if err = os.WriteFile(name+".new", data, 0o600); err == nil {
		return os.Rename(name+".new", name)
	}
	os.Remove(name + ".new")
	if errors.Is(err, unix.ENOSPC) && overwrite(name, data) == nil {
		return nil
	}
	return err
}

// overwrite writes a file in place, without taking more of the disk than it does.
func overwrite(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if int64(len(data)) > st.Blocks*512 {
		return unix.ENOSPC
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(data)))
}
