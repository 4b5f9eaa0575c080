package main

import (
	"fmt"
	"slices"
	"strings"

	"nacre/internal/container"

	"github.com/spf13/cobra"
)

// beside finds the process whose user namespace a command enters, in place of one of its own: that of who watches the container
// with which a container that it starts shares a namespace. 0: there is none. What is wrong with that container is told inside.
func (a *app) beside(cmd *cobra.Command, args []string) (pid int, err error) {
	ctx := cmd.Context()
	for _, mode := range a.sharedModes(cmd, args) {
		name, ok := strings.CutPrefix(mode, container.ModeContainer)
		if !ok {
			continue
		}
		other, err := a.container(ctx, name)
		if err == nil && other.State.Monitor > 0 && other.State.Status.Alive() {
			pid = other.State.Monitor
			break
		}
	}
	if a.opened == nil {
		return pid, nil
	}
	err = a.close()
	a.opened = nil
	if err != nil {
		return 0, fmt.Errorf("close the store: %w", err)
	}
	return pid, nil
}

// sharedModes are those of namespaces that a command starts containers with: as its flags say, or as their configs do.
func (a *app) sharedModes(cmd *cobra.Command, args []string) (modes []string) {
	switch path := commandPath(cmd); path {
	case "run":
		for _, name := range []string{"network", "pid", "ipc"} {
			modes = append(modes, cmd.Flags().Lookup(name).Value.String())
		}
	case "start", "restart":
		for _, name := range args {
			if c, err := a.container(cmd.Context(), name); err == nil {
				modes = append(modes, c.Config.Network.Mode, c.Config.Security.PID, c.Config.Security.IPC)
			}
		}
	}
	return slices.Compact(modes)
}
