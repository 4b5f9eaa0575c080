package container

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"golang.org/x/sys/unix"
)

// Containers are those of a store.
type Containers struct {
	s *store.Store
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Open gives access to the containers of a store, which stays the caller's. Those that were to be removed at
// their end (AutoRemove) and whose monitor died before it could do that are removed.
func Open(ctx context.Context, s *store.Store) (*Containers, error) {
	cs := &Containers{s: s}
	cs.sweep(ctx) // what cannot be removed now, the next one tries again
	return cs, ctx.Err()
}

func (cs *Containers) now() time.Time {
	if cs.Now != nil {
		return cs.Now()
	}
	return time.Now()
}

// Container is one container, as it was when it was looked at.
type Container struct {
	ID      string // 64 hex digits
	Name    string
	Created time.Time
	Config  Config
	State   State
	cs      *Containers
	dir     string

	// WithVolumes: Remove also removes the volumes that were made for this container alone.
	WithVolumes bool
}

// Errors that callers decide on.
var (
	// ErrNotFound: no container has that name, nor an ID that begins so.
	ErrNotFound = errors.New("No such container") //lint:ignore ST1005 docker's words
	// ErrRunning: it cannot be done while the container runs.
	ErrRunning = errors.New("is running")
	// ErrNotRunning: it can be done only while the container runs.
	ErrNotRunning = errors.New("is not running")
)

// notFoundError is ErrNotFound in docker's words.
type notFoundError struct{ name string }

func (e *notFoundError) Error() string { return "No such container: " + e.name }
func (e *notFoundError) Is(target error) bool {
	return target == ErrNotFound || target == registry.ErrAbsent
}

// ShortID is the ID as people see it.
func (c *Container) ShortID() string { return c.ID[:12] }

// Dir is the container's folder.
func (c *Container) Dir() string { return c.dir }

// Upper is the writable side, which is there once the container was started or its root mounted.
func (c *Container) Upper() string { return filepath.Join(c.dir, "upper") }

// NewOptions are what a new container is to be, besides its Config.
type NewOptions struct {
	Name string // empty: one is made up
	// Start: it is started at once. The container is returned locked, and is removed when
	// this process dies before it has run, if it is to be removed at its end.
	Start bool
}

// Create makes a container and does not start it. Its image stays in the store as long as it does.
//
// Errors: *store.NameTakenError; registry.ErrAbsent where the image is gone.
func (cs *Containers) Create(ctx context.Context, cfg Config, o NewOptions) (*Container, *Lock, error) {
	c := &Container{ID: newID(), Name: o.Name, Created: cs.now(), Config: cfg, State: State{Status: StatusCreated}, cs: cs}
	c.dir = cs.s.ContainerDir(c.ID)
	dir, remove, err := cs.s.TempDir("container")
	if err != nil {
		return nil, nil, err
	}
	defer remove()
	hold, err := c.prepareMounts(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer hold.Close()
	made := false
	defer func() {
		if !made {
			hold.Close()
			c.WithVolumes = true
			c.releaseMounts(ctx)
		}
	}()
	if err := writeNew(dir, c); err != nil {
		return nil, nil, fmt.Errorf("create container: %w", err)
	}
	var lock *Lock
	if o.Start {
		f, err := store.LockContainer(dir)
		if err != nil {
			return nil, nil, err
		}
		lock = &Lock{f}
	}
	row := store.ContainerRow{ID: c.ID, Image: cfg.Target, Created: c.Created, Doomed: o.Start && cfg.AutoRemove}
	for try := 0; ; try++ {
		if row.Name = o.Name; row.Name == "" {
			row.Name = randomName(try)
		}
		err = cs.s.AddContainer(ctx, row, dir)
		taken := (*store.NameTakenError)(nil)
		if o.Name != "" || !errors.As(err, &taken) {
			break
		}
	}
	if err != nil {
		lock.Unlock()
		return nil, nil, err
	}
	c.Name, made = row.Name, true
	return c, lock, nil
}

// writeNew writes the files of a new container.
func writeNew(dir string, c *Container) error {
	for name, v := range map[string]any{configFile: c.Config, stateFile: c.State} {
		data, err := json.Marshal(v)
		if err == nil { // nobody looks into the folder yet
			err = os.WriteFile(filepath.Join(dir, name), append(data, '\n'), 0o600)
		}
		if err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600)
}

func newID() string {
	for {
		var b [32]byte
		rand.Read(b[:])
		id := hex.EncodeToString(b[:])
		// One whose beginning is a number would be a number as a host name, as docker knows.
		if strings.Trim(id[:12], "0123456789") != "" {
			return id
		}
	}
}

// Find finds a container by name, by ID, or by the beginning of its ID.
//
// Errors: ErrNotFound; store.ErrAmbiguous.
func (cs *Containers) Find(ctx context.Context, nameOrID string) (*Container, error) {
	rows, err := cs.s.ContainersLike(ctx, strings.TrimPrefix(nameOrID, "/"))
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0:
		return nil, &notFoundError{nameOrID}
	case len(rows) > 1:
		var fits []string
		for _, r := range rows[:min(len(rows), 10)] {
			fits = append(fits, r.ID[:12]+" ("+r.Name+")")
		}
		return nil, fmt.Errorf("container %s: %w: it may be %s", nameOrID, store.ErrAmbiguous, strings.Join(fits, ", "))
	}
	c := cs.loadAny(ctx, rows[0])
	if c == nil {
		return nil, &notFoundError{nameOrID}
	}
	return c, nil
}

// loadAny reads a container. One that cannot be read is StatusDead, one that was removed meanwhile nil.
func (cs *Containers) loadAny(ctx context.Context, r store.ContainerRow) *Container {
	c, err := cs.load(r)
	if err == nil {
		return c
	}
	if !cs.exists(ctx, r.ID) {
		return nil
	}
	if _, gone := os.Lstat(cs.s.ContainerDir(r.ID)); errors.Is(gone, fs.ErrNotExist) {
		// Who removed it was killed on the way, or somebody has deleted its folder. Nothing is left of it but a record.
		if cs.s.DropContainer(ctx, r.ID) == nil {
			return nil
		}
	}
	c = &Container{ID: r.ID, Name: r.Name, Created: r.Created, cs: cs, dir: cs.s.ContainerDir(r.ID)}
	c.Config.Target = r.Image
	c.State = State{Status: StatusDead, Error: err.Error()}
	return c
}

// exists tells whether a container whose folder is not there is on record still, once whoever is at removing it has done so.
func (cs *Containers) exists(ctx context.Context, id string) bool {
	ok, err := cs.s.HasContainer(ctx, id)
	return err != nil || ok
}

// List lists the containers, newest first. One whose folder cannot be read is StatusDead.
func (cs *Containers) List(ctx context.Context) ([]*Container, error) {
	rows, err := cs.s.Containers(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]*Container, 0, len(rows))
	for _, r := range rows {
		if c := cs.loadAny(ctx, r); c != nil {
			out = append(out, c)
		}
	}
	return out, nil
}

// load reads a container's files.
func (cs *Containers) load(r store.ContainerRow) (*Container, error) {
	c := &Container{ID: r.ID, Name: r.Name, Created: r.Created, cs: cs, dir: cs.s.ContainerDir(r.ID)}
	err := c.readConfig()
	if err == nil {
		c.State, err = loadState(c.dir)
	}
	return c, err
}

func (c *Container) readConfig() error {
	name := filepath.Join(c.dir, configFile)
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &c.Config); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Reload looks again.
func (c *Container) Reload() error {
	st, err := loadState(c.dir)
	if err == nil {
		c.State = st
	}
	return err
}

// Rename gives a container another name. Errors: *store.NameTakenError, ErrNotFound.
func (c *Container) Rename(ctx context.Context, name string) error {
	err := c.cs.s.RenameContainer(ctx, c.ID, name)
	if errors.Is(err, registry.ErrAbsent) {
		return &notFoundError{c.Name}
	}
	return err
}

// Size is the disk space that the container takes beside its image.
func (c *Container) Size() int64 { return store.DiskUsage(c.dir) }

// Written is the size of what the container wrote to its root, as docker counts it: that of files, whatever they take of
// the disk, one with several names once, and nothing for directories.
func (c *Container) Written() (n int64) {
	seen := map[uint64]bool{}
	filepath.WalkDir(c.Upper(), func(name string, e fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err != nil || e.IsDir() || unix.Lstat(name, &st) != nil || st.Nlink > 1 && seen[st.Ino] {
			return nil
		}
		if st.Nlink > 1 {
			seen[st.Ino] = true
		}
		n += st.Size
		return nil
	})
	return n
}

// LogPath is the newest file of the container's log.
func (c *Container) LogPath() string { return filepath.Join(c.dir, logFile) }

// Lock is the right to start, run or remove a container. It ends with the process, and passes to
// another that is given its file.
type Lock struct{ file *os.File }

// Unlock gives it back; nil has none.
func (l *Lock) Unlock() {
	if l != nil {
		l.file.Close()
	}
}

// lock takes the container's lock. Errors: unix.EAGAIN where another has it, ErrNotFound.
func (c *Container) lock(ctx context.Context) (*Lock, error) {
	f, err := store.LockContainer(c.dir)
	if err != nil && errors.Is(err, fs.ErrNotExist) && !c.cs.exists(ctx, c.ID) {
		return nil, &notFoundError{c.Name}
	}
	if err != nil {
		return nil, err
	}
	// The folder may have been removed since, and this be a lock of nothing.
	if _, err := os.Stat(filepath.Join(c.dir, configFile)); errors.Is(err, fs.ErrNotExist) && !c.cs.exists(ctx, c.ID) {
		f.Close()
		return nil, &notFoundError{c.Name}
	}
	return &Lock{f}, nil
}

// Remove removes a container that does not run, with all in its folder.
//
// Errors: ErrRunning, ErrNotFound.
func (c *Container) Remove(ctx context.Context) error {
	lock, err := c.lock(ctx)
	if errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("container %s: %w", c.ID, ErrRunning)
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return c.drop(ctx)
}

// drop removes the container, whose lock the caller holds.
func (c *Container) drop(ctx context.Context) error {
	if err := c.releaseMounts(ctx); err != nil {
		return err
	}
	err := c.cs.s.DropContainer(context.WithoutCancel(ctx), c.ID)
	if errors.Is(err, unix.ENOSPC) {
		// What it wrote and its log are what there is to give. They go in any case.
		logs, _ := filepath.Glob(filepath.Join(c.dir, logFile+"*"))
		for _, path := range append(logs, filepath.Join(c.dir, "upper")) {
			os.RemoveAll(path)
		}
		err = c.cs.s.DropContainer(context.WithoutCancel(ctx), c.ID)
	}
	return err
}

// sweep removes the containers that were to be removed at their end and have lost their monitor.
func (cs *Containers) sweep(ctx context.Context) {
	rows, err := cs.s.DoomedContainers(ctx)
	if err != nil {
		return
	}
	for _, r := range rows {
		c, err := cs.load(r)
		if err != nil {
			c = &Container{ID: r.ID, Name: r.Name, cs: cs, dir: cs.s.ContainerDir(r.ID)}
		}
		if !store.ContainerLocked(c.dir) {
			c.Remove(ctx)
		}
	}
}
