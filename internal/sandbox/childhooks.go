package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// createHooks runs what comes between the mounts and leaving the host's root, which is
// where the programs are: first, by whoever started us, those that run on the host, then ours.
func (c *child) createHooks() error {
	if c.RuntimeHooks {
		if err := c.report(reportHooks, ""); err != nil {
			return fail("report", err)
		}
		if err := awaitHooks(); err != nil {
			return fail("wait for hooks", err)
		}
	}
	return runHooks(context.Background(), hookCreateContainer, c.CreateHooks, path.Join(c.Scratch, bundleRoot), c.CreateState)
}

// awaitHooks waits for leave to go on. If a hook failed the socket is closed instead.
func awaitHooks() error {
	for {
		n, err := unix.Read(socketFd, make([]byte, 1))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			os.Exit(CodeSandbox)
		}
		return nil
	}
}

// startHooks runs programs of the image before the one that was asked for. They may do what that
// one may, and no more.
func (c *child) startHooks() error {
	if len(c.StartHooks) == 0 {
		return nil
	}
	return runHooks(context.Background(), hookStartContainer, c.StartHooks, "", c.StartState)
}

// makeBundle puts config.json beside the root, where hooks that run in our mount namespace find it.
func (c *child) makeBundle(scratch int) error {
	if len(c.Config) == 0 {
		return nil
	}
	m := mount{File: c.Config, Mode: 0o600}
	if err := makeFile(scratch, bundleConfig, &m, c.Userns); err != nil {
		return fmt.Errorf("%s: %w", bundleConfig, err)
	}
	return nil
}
