package container

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"nacre/internal/network"
	"nacre/internal/sandbox"

	"golang.org/x/sys/unix"
)

// WithRoot calls use with the container's root, all that is mounted in it included: as its first process sees it, or,
// of one that does not run, as it would. Nothing in there can be trusted to stay what it is: see package within.
// The container is not started meanwhile.
func (c *Container) WithRoot(ctx context.Context, use func(root *os.File) error) error {
	for {
		lock, err := c.lock(ctx)
		if err == nil {
			defer lock.Unlock()
			return c.withIdleRoot(ctx, use)
		}
		if !errors.Is(err, unix.EAGAIN) {
			return err
		}
		root, err := c.liveRoot()
		if err == nil {
			defer root.Close()
			return use(root)
		}
		if !errors.Is(err, ErrNotRunning) || ctx.Err() != nil {
			return err
		}
		select { // it is about to start, or to end
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// liveRoot asks the monitor for the root.
func (c *Container) liveRoot() (*os.File, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := writeMessage(conn, frameRequest, request{Op: opRoot}); err != nil {
		return nil, fmt.Errorf("container %s %w", c.ID, ErrNotRunning)
	}
	return receiveRoot(conn.(*net.UnixConn))
}

// withIdleRoot puts the root together for a container whose lock the caller has.
func (c *Container) withIdleRoot(ctx context.Context, use func(root *os.File) error) error {
	idle := *c
	idle.Config.Entrypoint, idle.Config.Command = []string{"/"}, nil // which nobody executes
	idle.Config.User, idle.Config.WorkingDir, idle.Config.TTY = "", "/", false
	idle.Config.Network = network.Options{Mode: network.ModeHost}
	p := &parts{c: &idle}
	defer p.close()
	for _, add := range []func(context.Context) error{p.addRoot, p.addProcess, p.addMounts} {
		if err := add(ctx); err != nil {
			return err
		}
	}
	return sandbox.Open(ctx, sandbox.Config{Spec: p.spec, Root: p.root, Files: p.files, Trees: p.trees}, use)
}
