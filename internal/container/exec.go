package container

import (
	"context"
	"errors"
	"fmt"

	"nacre/internal/rootfs"
	"nacre/internal/sandbox"
	"nacre/internal/within"
)

// ExecOptions are what else to run in a container. Args are needed; what is empty is as the container has it.
type ExecOptions struct {
	Args       []string `json:"args"`
	Env        []string `json:"env,omitempty"` // besides the container's
	WorkingDir string   `json:"workingDir,omitempty"`
	User       string   `json:"user,omitempty"`
	TTY        bool     `json:"tty,omitempty"`
	Stdin      bool     `json:"stdin,omitempty"`  // it has input: that of who asks for it
	Detach     bool     `json:"detach,omitempty"` // nobody is connected to it
	Privileged bool     `json:"privileged,omitempty"`
	// Size is that of the terminal.
	Size sandbox.Size `json:"size,omitzero"`
}

// Exec runs a process in a container that runs, by its monitor, of which it is a child: it is there as long as the
// container, whatever becomes of us. It returns when the program was executed; what it is connected to is
// at the end of the Attachment.
//
// Errors: *StartError, with docker's exit code where the program could not be executed; ErrNotRunning.
func (c *Container) Exec(ctx context.Context, o ExecOptions) (*Attachment, error) {
	if err := c.Reload(); err != nil {
		return nil, err
	}
	if err := c.mayExec(c.State.Status); err != nil {
		return nil, err
	}
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	at, err := c.open(ctx, conn, request{Op: opExec, Exec: &o, Stdin: o.Stdin, Stdout: !o.Detach, Stderr: !o.Detach, Whole: true})
	if err == nil {
		at.TTY = o.TTY
	}
	return at, err
}

// mayExec tells whether a container is in a state to run something more. The words are docker's.
func (c *Container) mayExec(s Status) error {
	switch {
	case s == StatusPaused:
		return fmt.Errorf("Container %s is paused, unpause the container before exec", c.ID) //lint:ignore ST1005 docker's words
	case s == StatusRestarting:
		return fmt.Errorf("Container %s is restarting, wait until the container is running", c.ID) //lint:ignore ST1005 docker's words
	case s != StatusRunning:
		return fmt.Errorf("container %s %w", c.ID, ErrNotRunning)
	}
	return nil
}

// errNoArgs: there is nothing to execute.
var errNoArgs = errors.New("no command to run")

// LookupUser finds a user by the accounts of a container's root.
func LookupUser(root *within.Tree, name string) (rootfs.User, error) {
	return rootfs.LookupProcess(root, name)
}
