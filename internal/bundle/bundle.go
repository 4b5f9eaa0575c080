// Package bundle is the life of containers as the OCI runtime specification has it: a bundle (config.json and a root) is made into a
// container that waits, which is started, signalled and deleted by calls of their own, that may come from any process. It keeps the
// state of each in a folder, and leaves all that a container is made of to package sandbox.
package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Runtime is the containers below a root. Its methods may be called by several processes at once.
type Runtime struct {
	Root string // a folder, made when needed
}

// What callers may want to tell apart.
var (
	ErrNotFound   = errors.New("container does not exist")
	ErrExists     = errors.New("container with given ID already exists") // runc's words
	ErrNotCreated = errors.New("only what is created can be started")
	ErrNotRunning = errors.New("container not running") // podman looks for these words of runc's
	ErrNotStopped = errors.New("only what is stopped can be deleted")
	ErrNoFreezer  = errors.New("it has no cgroup by which it could be stopped: linux.cgroupsPath in config.json gives it one, where cgroups can be made")
)

// Names of the files of a container's folder.
const (
	recordFile = "state.json"
	specFile   = "config.json" // as it was when the container was created
	startFile  = "start"       // the socket at which the container waits
	lockFile   = "lock"
)

// record is what is kept of a container.
type record struct {
	ID      string    `json:"id"`
	Bundle  string    `json:"bundle"`
	Root    string    `json:"rootfs"`
	Pid     int       `json:"pid"`
	Birth   uint64    `json:"birth"` // when the process began, in ticks since boot: another with its number has another
	Boot    string    `json:"boot"`
	Started bool      `json:"started"`
	Created time.Time `json:"created"`
	Cgroups []string  `json:"cgroups,omitempty"`
}

// container is one that is there, locked.
type container struct {
	record
	dir  string
	spec *specs.Spec
	lock *os.File
}

// checkID refuses what could not be a folder's name.
func checkID(id string) error {
	if id == "" {
		return errors.New("a container ID is needed")
	}
	ok := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("_+-.", r)
	}
	if strings.TrimFunc(id, ok) != "" || strings.IndexFunc(id, func(r rune) bool { return !ok(r) }) >= 0 || id == "." || id == ".." || len(id) > 255 {
		return fmt.Errorf("container ID %q: letters, digits and any of _+-. are allowed", id)
	}
	return nil
}

// open finds a container and locks it. The caller closes it.
func (r Runtime) open(id string) (*container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	c := &container{dir: filepath.Join(r.Root, id)}
	var err error
	if c.lock, err = lock(c.dir, os.O_RDWR); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("container %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if err = readJSON(filepath.Join(c.dir, recordFile), &c.record); err == nil {
		c.spec = &specs.Spec{}
		err = readJSON(filepath.Join(c.dir, specFile), c.spec)
	}
	if err == nil && (c.spec.Process == nil || c.spec.Linux == nil) {
		err = fmt.Errorf("%s: process and linux are missing", filepath.Join(c.dir, specFile))
	}
	if err != nil {
		c.close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("container %s: %w", id, ErrNotFound)
		}
		return nil, err
	}
	return c, nil
}

// lock takes the lock of a container's folder, and waits for it.
func lock(dir string, flags int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), flags, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

func (c *container) close() { c.lock.Close() }

// save writes the record. The folder is on a file system that goes with the machine: nothing is synced.
func (c *container) save() error { return writeJSON(filepath.Join(c.dir, recordFile), &c.record) }

// status is what a container is doing.
func (c *container) status() specs.ContainerState {
	switch birth, alive := born(c.Pid); {
	case c.Pid == 0 || !alive || birth != c.Birth || c.Boot != bootID():
		return specs.StateStopped
	case c.isPaused():
		return StatePaused
	case !c.Started:
		return specs.StateCreated
	}
	return specs.StateRunning
}

// state is what `state` prints, and hooks read.
func (c *container) state() *specs.State {
	s := &specs.State{Version: specs.Version, ID: c.ID, Status: c.status(), Bundle: c.Bundle, Annotations: c.spec.Annotations}
	if s.Status != specs.StateStopped {
		s.Pid = c.Pid
	}
	return s
}

// born tells when a process began, if it is still there and not dead already.
func born(pid int) (birth uint64, alive bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// The name, in parentheses, may have anything in it; what follows are the fields from the third on.
	end := strings.LastIndexByte(string(text), ')')
	f := strings.Fields(string(text[end+1:]))
	if end < 0 || len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return 0, false
	}
	birth, err = strconv.ParseUint(f[19], 10, 64)
	return birth, err == nil
}

func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}

func readJSON(name string, v any) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func writeJSON(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
