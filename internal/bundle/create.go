package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Options are how a container is made, or a process in one. The zero value is for one without streams.
type Options struct {
	Stdio         [3]*os.File // its standard streams, as they are; nil is empty
	PidFile       string      // gets the process id
	ConsoleSocket string      // gets the terminal, where the spec asks for one
}

// Created is a container that was made.
type Created struct {
	Warnings []string // what of the spec could not be done
	// Wait waits for its end, and tells its exit code, to who made it alone.
	Wait func() (code int, err error)
}

var errTerminal = errors.New("a terminal and --console-socket go together")

// Create makes a container of a bundle, which then waits for Start. Errors: ErrExists; *sandbox.StartError.
func (r Runtime) Create(ctx context.Context, id, bundle string, o Options) (made *Created, err error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	c := &container{dir: filepath.Join(r.Root, id)}
	c.ID, c.Created, c.Boot = id, time.Now().UTC(), bootID()
	if c.Bundle, err = filepath.Abs(bundle); err != nil {
		return nil, err
	}
	if err := c.readBundle(); err != nil {
		return nil, err
	}
	if c.spec.Process.Terminal != (o.ConsoleSocket != "") {
		return nil, errTerminal
	}
	if err := os.MkdirAll(r.Root, 0o700); err != nil {
		return nil, err
	}
	if err := os.Mkdir(c.dir, 0o711); errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("container %s: %w", id, ErrExists)
	} else if err != nil {
		return nil, err
	}
	if made, err = c.create(ctx, o); err != nil {
		os.RemoveAll(c.dir)
		return nil, err
	}
	return made, nil
}

// readBundle reads config.json and finds the root.
func (c *container) readBundle() error {
	c.spec = &specs.Spec{}
	if err := readJSON(filepath.Join(c.Bundle, specFile), c.spec); err != nil {
		return err
	}
	if err := checkVersion(c.spec.Version); err != nil {
		return err
	}
	if c.spec.Root == nil || c.spec.Root.Path == "" {
		return errors.New("config.json: root.path is needed")
	}
	if c.spec.Process == nil || c.spec.Linux == nil {
		return errors.New("config.json: process and linux are needed")
	}
	c.Root = c.spec.Root.Path
	if !filepath.IsAbs(c.Root) {
		c.Root = filepath.Join(c.Bundle, c.Root)
	}
	info, err := os.Stat(c.Root)
	if err == nil && !info.IsDir() {
		err = errors.New("not a directory")
	}
	if err != nil {
		return fmt.Errorf("config.json: root.path %s: %w", c.Root, err)
	}
	return nil
}

// checkVersion refuses configs of another major version: they may mean something else.
func checkVersion(v string) error {
	if ok, _ := regexp.MatchString(`^1\.[0-9]+\.[0-9]+([-+].*)?$`, v); !ok {
		return fmt.Errorf("config.json: ociVersion %q is not supported: want 1.x.y", v)
	}
	return nil
}

func (c *container) create(ctx context.Context, o Options) (made *Created, err error) {
	if c.lock, err = lock(c.dir, os.O_RDWR|os.O_CREATE); err != nil {
		return nil, err
	}
	defer c.close()
	socket, err := sandbox.ListenForStart(filepath.Join(c.dir, startFile))
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	config := sandbox.Config{Spec: c.spec, RootDir: c.Root}
	done, err := sandbox.Create(ctx, config, sandbox.Detach{
		ID: c.ID, Bundle: c.Bundle, Socket: socket, Stdio: o.Stdio, Console: consoleTo(o.ConsoleSocket),
	})
	if err != nil {
		return nil, err
	}
	c.Pid, c.Cgroups = done.Pid, done.Cgroups
	c.Birth, _ = born(c.Pid)
	if err = writeJSON(filepath.Join(c.dir, specFile), c.spec); err == nil {
		err = c.save()
	}
	if err == nil {
		err = writePid(o.PidFile, c.Pid)
	}
	if err != nil {
		c.end(ctx)
		return nil, err
	}
	return &Created{Warnings: done.Warnings, Wait: done.Wait}, nil
}

// writePid writes a process id where whoever reads it finds all of it or nothing.
func writePid(name string, pid int) error {
	if name == "" {
		return nil
	}
	dir, base := filepath.Split(name)
	tmp := filepath.Join(dir, "."+strings.TrimPrefix(base, "."))
	if err := os.WriteFile(tmp, fmt.Append(nil, pid), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
