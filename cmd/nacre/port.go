package main

import (
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"

	"nacre/internal/container"
	"nacre/internal/network"

	"github.com/spf13/cobra"
)

// showPorts prints where a container's ports are published, all of them or one.
func showPorts(a *app, c *container.Container, one []string) error {
	key := ""
	if len(one) == 1 {
		number, proto, ok := strings.Cut(one[0], "/")
		if !ok {
			proto = "tcp"
		}
		if _, err := strconv.ParseUint(number, 10, 16); err != nil {
			return fmt.Errorf("invalid port (%s): want PORT or PORT/PROTO", one[0])
		}
		key = number + "/" + proto
	}
	found := false
	for _, p := range c.State.Network.Ports {
		if key != "" && p.Key() != key {
			continue
		}
		found = true
		at := net.JoinHostPort(p.HostIP, strconv.Itoa(int(p.HostPort)))
		if key == "" {
			at = p.Key() + " -> " + at
		}
		fmt.Fprintln(a.stdout, at)
	}
	if key != "" && !found {
		return fmt.Errorf("no public port '%s' published for %s", one[0], c.Name)
	}
	return nil
}

// exposedPorts are those that the image says it listens on, and those that the user says; the published are among them.
func exposedPorts(cfg *container.Config) map[string]struct{} {
	all := maps.Clone(cfg.Exposed)
	if all == nil {
		all = map[string]struct{}{}
	}
	for _, e := range cfg.Network.Expose {
		ports, _ := network.ParseExpose(e) // it was read before
		for _, p := range ports {
			all[p.Key()] = struct{}{}
		}
	}
	for _, p := range cfg.Network.Ports {
		all[p.Key()] = struct{}{}
	}
	return all
}

func portCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "port CONTAINER [PRIVATE_PORT[/PROTO]]",
		Short:             "Show which ports of the host lead to a container",
		Example:           "  nacre port web\n  nacre port web 80/tcp",
		Args:              cobra.MatchAll(minArgs(1, "port needs a container"), maxArgs(2, "port takes a container and one port of it")),
		ValidArgsFunction: one(a.completeContainers(alive)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.container(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return showPorts(a, c, args[1:])
		},
	}
}
