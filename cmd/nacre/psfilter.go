package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"nacre/internal/container"
	"nacre/internal/network"
	"nacre/internal/registry"
	"nacre/internal/volume"
)

// psFilter makes a predicate from --filter. Filters of one key are alternatives, but those of labels, which all have to
// fit; wide tells that they ask for containers that do not run, too.
func (a *app) psFilter(ctx context.Context, list []*container.Container, filters []string) (keep func(*container.Container) bool, wide bool, err error) {
	groups := map[string][]func(*container.Container) bool{}
	for i, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, false, fmt.Errorf("--filter %q: want KEY=VALUE", f)
		}
		test, err := a.psTest(ctx, list, key, value)
		if err != nil {
			return nil, false, fmt.Errorf("--filter %s: %w", f, err)
		}
		wide = wide || key == "status" || key == "exited"
		if key == "label" {
			key += strconv.Itoa(i)
		}
		groups[key] = append(groups[key], test)
	}
	return func(c *container.Container) bool {
		for _, tests := range groups {
			if !slices.ContainsFunc(tests, func(t func(*container.Container) bool) bool { return t(c) }) {
				return false
			}
		}
		return true
	}, wide, nil
}

func (a *app) psTest(ctx context.Context, list []*container.Container, key, value string) (func(*container.Container) bool, error) {
	switch key {
	case "id":
		return func(c *container.Container) bool { return strings.HasPrefix(c.ID, value) }, nil
	case "name":
		re, err := regexp.Compile(value)
		if err != nil {
			return nil, err
		}
		return func(c *container.Container) bool { return re.MatchString(c.Name) || re.MatchString("/"+c.Name) }, nil
	case "status":
		return statusTest(value)
	case "label":
		name, want, exact := strings.Cut(value, "=")
		return func(c *container.Container) bool {
			have, ok := c.Config.Labels[name]
			return ok && (!exact || have == want)
		}, nil
	case "exited":
		code, err := strconv.Atoi(value)
		if err != nil {
			return nil, errors.New("want a number")
		}
		return func(c *container.Container) bool {
			return c.State.Status == container.StatusExited && c.State.ExitCode == code
		}, nil
	case "ancestor":
		return a.ancestorTest(ctx, value)
	case "before", "since":
		i := slices.IndexFunc(list, func(c *container.Container) bool { return c.Name == value || strings.HasPrefix(c.ID, value) })
		if i < 0 {
			return nil, fmt.Errorf("No such container: %s", value) //lint:ignore ST1005 docker's words
		}
		at := list[i].Created
		return func(c *container.Container) bool {
			return key == "before" && c.Created.Before(at) || key == "since" && c.Created.After(at)
		}, nil
	case "health":
		if !slices.Contains([]string{container.HealthNone, container.HealthStarting, container.HealthHealthy, container.HealthUnhealthy}, value) {
			return nil, errors.New("want starting, healthy, unhealthy or none")
		}
		return func(c *container.Container) bool { return healthOf(c) == value }, nil
	case "volume":
		return func(c *container.Container) bool {
			return slices.ContainsFunc(c.Config.Mounts, func(m volume.Mount) bool { return m.Source == value || m.Target == value })
		}, nil
	case "network":
		if value == network.ModePrivate || value == "default" {
			value = bridgeNetwork
		}
		return func(c *container.Container) bool { return networkName(c.Config.Network) == value }, nil
	case "publish", "expose":
		return portTest(key, value)
	case "is-task":
		want, err := strconv.ParseBool(value)
		return func(*container.Container) bool { return !want }, err
	}
	return nil, errors.New("unknown; want id, name, status, label, ancestor, exited, before, since, health, volume, network, publish or expose")
}

// portTest finds containers by ports, PORT[-END][/PROTO]: by those that they expose, whether they run or not, or by those of the
// host at which they are published.
func portTest(key, value string) (func(*container.Container) bool, error) {
	ports, err := network.ParseExpose(value)
	if err != nil {
		return nil, err
	}
	return func(c *container.Container) bool {
		have := map[string]struct{}{}
		if key == "expose" {
			have = exposedPorts(&c.Config)
		} else if c.State.Status.Alive() {
			for _, p := range c.State.Network.Ports {
				p.ContainerPort = p.HostPort
				have[p.Key()] = struct{}{}
			}
		}
		return slices.ContainsFunc(ports, func(p network.Port) bool {
			_, ok := have[p.Key()]
			return ok
		})
	}, nil
}

func statusTest(value string) (func(*container.Container) bool, error) {
	all := []container.Status{
		container.StatusCreated, container.StatusRestarting, container.StatusRunning, container.StatusRemoving,
		container.StatusPaused, container.StatusExited, container.StatusDead,
	}
	if !slices.Contains(all, container.Status(value)) {
		return nil, errors.New("want created, restarting, running, removing, paused, exited or dead")
	}
	return func(c *container.Container) bool { return c.State.Status == container.Status(value) }, nil
}

func healthOf(c *container.Container) string {
	if c.State.Health == nil {
		return container.HealthNone
	}
	return c.State.Health.Status
}

// ancestorTest finds the containers of an image, and of images that were made from it.
func (a *app) ancestorTest(ctx context.Context, name string) (func(*container.Container) bool, error) {
	img, err := a.image(ctx, name)
	if errors.Is(err, registry.ErrAbsent) {
		return func(c *container.Container) bool { return c.Config.Image == name }, nil // it was removed by force
	}
	if err != nil {
		return nil, err
	}
	_, cfg, err := a.manifest(ctx, img, nil)
	if err != nil {
		return nil, err
	}
	base := cfg.RootFS.DiffIDs
	return func(c *container.Container) bool {
		if c.Config.ImageID == img.ID || c.Config.Target == img.Target.Digest {
			return true
		}
		layers := c.Config.Layers
		return len(base) > 0 && len(layers) >= len(base) && slices.Equal(layers[:len(base)], base)
	}, nil
}
