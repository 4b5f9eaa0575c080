package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"nacre/internal/registry/store"
	"nacre/internal/sandbox"

	"golang.org/x/sys/unix"
)

// Live is a container that runs, as others than its monitor see it.
type Live struct {
	// Pid is its first process, as we see it. It may end at any moment: hold on to it by PidFd.
	Pid   int
	State State
}

// Live tells of a container that runs. Errors: ErrNotRunning.
func (c *Container) Live() (*Live, error) {
	if err := c.Reload(); err != nil {
		return nil, err
	}
	if st := c.State.Status; st != StatusRunning && st != StatusPaused || c.State.Pid == 0 {
		return nil, fmt.Errorf("container %s %w", c.ID, ErrNotRunning)
	}
	return &Live{Pid: c.State.Pid, State: c.State}, nil
}

// Exit is how a container ended.
type Exit struct {
	Code      int
	OOMKilled bool
	Warnings  []string
}

// StartError says why a container could not be started, with docker's exit code for it.
type StartError struct {
	Code int
	Text string
}

func (e *StartError) Error() string { return e.Text }

// Attach says what an attachment is connected to.
type Attach struct {
	Stdin, Stdout, Stderr bool
	Size                  sandbox.Size // of the terminal, where there is one
	// Whole: the container waits for this reader, however slow. Others lose what they do not read within ten seconds.
	Whole bool
}

// Attachment is a connection to a running container.
type Attachment struct {
	c    *Container
	conn net.Conn
	exec bool // to a process of Exec
	TTY  bool // it has a terminal: all output is Stdout's
	// Warnings are of a start: what the user is to know.
	Warnings []string
	wmu      sync.Mutex
}

// Close ends the connection. The container goes on.
func (a *Attachment) Close() error { return a.conn.Close() }

// TryLock takes the container's lock, for Start and Run. Errors: ErrRunning; ErrNotFound.
func (c *Container) TryLock(ctx context.Context) (*Lock, error) {
	lock, err := c.lock(ctx)
	if errors.Is(err, unix.EAGAIN) {
		return nil, fmt.Errorf("container %s %w", c.ID, ErrRunning)
	}
	return lock, err
}

// Start starts the container with a monitor of its own, to which it hands the lock. It returns when the
// program was executed.
//
// Errors: *StartError.
func (c *Container) Start(ctx context.Context, lock *Lock, at Attach) (*Attachment, error) {
	if c.Config.AutoRemove {
		if err := c.cs.s.DoomContainer(ctx, c.ID); err != nil {
			lock.Unlock()
			return nil, err
		}
	}
	conn, err := c.spawn(lock)
	if err != nil {
		return nil, err
	}
	return c.attach(ctx, conn, opStart, at)
}

// Attach connects to a container that runs. Errors: ErrNotRunning.
func (c *Container) Attach(ctx context.Context, at Attach) (*Attachment, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	return c.attach(ctx, conn, opAttach, at)
}

func (c *Container) attach(ctx context.Context, conn net.Conn, op string, at Attach) (*Attachment, error) {
	return c.open(ctx, conn, request{Op: op, Stdin: at.Stdin, Stdout: at.Stdout, Stderr: at.Stderr, Whole: at.Whole, Width: at.Size.Width, Height: at.Size.Height})
}

// open makes a request that begins an attachment.
func (c *Container) open(ctx context.Context, conn net.Conn, q request) (*Attachment, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err := writeMessage(conn, frameRequest, q)
	var r reply
	if err == nil {
		r, err = readReply(conn)
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err != nil:
		err = fmt.Errorf("container %s: %w", c.ID, errNoMonitor)
	case r.Error == ErrNotRunning.Error():
		err = fmt.Errorf("container %s %w", c.ID, ErrNotRunning)
	case r.Error != "":
		err = &StartError{r.Code, r.Error}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &Attachment{c: c, conn: conn, exec: q.Op == opExec, TTY: r.TTY, Warnings: r.Warnings}, nil
}

// dial connects to the container's monitor.
func (c *Container) dial() (net.Conn, error) {
	dir, err := openDir(c.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &notFoundError{c.Name}
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socketAddr(dir), Net: "unix"})
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return nil, fmt.Errorf("container %s %w", c.ID, ErrNotRunning)
	}
	return conn, err
}

// readReply reads frames up to a reply.
func readReply(conn io.Reader) (r reply, err error) {
	var buf []byte
	for {
		kind, data, err := readFrame(conn, buf)
		if err != nil {
			return r, err
		}
		if kind == frameReply {
			return r, json.Unmarshal(data, &r)
		}
	}
}

// ask makes one request of the monitor.
func (c *Container) ask(ctx context.Context, q request) (reply, error) {
	conn, err := c.dial()
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var r reply
	if err = writeMessage(conn, frameRequest, q); err == nil {
		r, err = readReply(conn)
	}
	switch {
	case ctx.Err() != nil:
		return r, context.Cause(ctx)
	case err != nil:
		return r, errNoMonitor
	case r.Error == ErrNotRunning.Error():
		return r, fmt.Errorf("container %s %w", c.ID, ErrNotRunning)
	case r.Stuck:
		return r, fmt.Errorf("cannot kill container %s: %s", c.Name, r.Error)
	case r.Error != "" && !r.Exited && q.Op != opWait && q.Op != opStop:
		return r, errors.New(r.Error)
	}
	return r, nil
}

// Signal sends a signal to the container's first process. Errors: ErrNotRunning.
func (c *Container) Signal(ctx context.Context, sig syscall.Signal) error {
	_, err := c.ask(ctx, request{Op: opSignal, Signal: int(sig)})
	return err
}

// Stop asks the container to end and kills it after a time (below zero: never). sig is 0 for the container's
// own stop signal. It returns when the container has ended; one that has already is no error.
func (c *Container) Stop(ctx context.Context, sig syscall.Signal, timeout time.Duration) error {
	_, err := c.ask(ctx, request{Op: opStop, Signal: int(sig), Timeout: timeout})
	if errors.Is(err, ErrNotRunning) || errors.Is(err, errNoMonitor) {
		return c.untilFree(ctx)
	}
	return err
}

// untilFree waits until nobody has the container's lock: it was starting, or is being removed.
func (c *Container) untilFree(ctx context.Context) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		lock, err := c.lock(ctx)
		if err == nil {
			lock.Unlock()
			return nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return err
		}
		// It may have begun to run meanwhile.
		if _, err := c.ask(ctx, request{Op: opStop, Timeout: c.Config.StopGrace()}); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// StopGrace is how long stop waits for the container where nobody says otherwise; below zero: for ever.
func (c *Config) StopGrace() time.Duration {
	if c.StopTimeout == nil {
		return 10 * time.Second
	}
	return time.Duration(*c.StopTimeout) * time.Second
}

// Pause stops all processes of the container, Unpause lets them go on. Errors: ErrNotRunning.
func (c *Container) Pause(ctx context.Context) error {
	_, err := c.ask(ctx, request{Op: opPause})
	return err
}

// Unpause is the opposite of Pause.
func (c *Container) Unpause(ctx context.Context) error {
	_, err := c.ask(ctx, request{Op: opUnpause})
	return err
}

// Wait waits for the container's end, of which it is not started again; with next for any end. One that does
// not run has ended.
func (c *Container) Wait(ctx context.Context, next bool) (Exit, error) {
	r, err := c.ask(ctx, request{Op: opWait, Next: next})
	if errors.Is(err, ErrNotRunning) || errors.Is(err, errNoMonitor) {
		if err := c.Reload(); errors.Is(err, os.ErrNotExist) {
			return Exit{}, &notFoundError{c.Name}
		} else if err != nil {
			return Exit{}, err
		}
		return Exit{Code: c.State.ExitCode, OOMKilled: c.State.OOMKilled}, nil
	}
	return Exit{Code: r.Code, OOMKilled: r.OOM, Warnings: r.Warnings}, err
}

// Busy tells whether somebody runs, starts or removes the container at this moment.
func (c *Container) Busy() bool { return store.ContainerLocked(c.dir) }
