package main

import (
	"context"
	"maps"
	"strings"
	"time"

	"nacre/internal/container"
	"nacre/internal/volume"

	"github.com/spf13/cobra"
)

func containerInspectCommand(a *app) *cobra.Command {
	var format string
	var size bool
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Show everything known of containers as JSON",
		Example: `  nacre container inspect web
  nacre container inspect -f '{{.State.Status}} {{.State.ExitCode}}' web`,
		Args:              minArgs(1, "inspect needs at least one container"),
		ValidArgsFunction: a.completeContainers(nil),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runInspect(a, format, args, func(name string) (any, error) { return a.inspectContainer(cmd.Context(), name, size) })
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", `"json" or a Go template`)
	cmd.Flags().BoolVarP(&size, "size", "s", false, "also what it takes of the disk")
	return cmd
}

// inspectedContainer is a container in the shape of docker's "container inspect" (Engine API, ContainerInspect).
type inspectedContainer struct {
	ID              string `json:"Id"`
	Created         string
	Path            string
	Args            []string
	State           inspectedState
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	HostConfig      inspectedHost
	GraphDriver     struct {
		Data map[string]string
		Name string
	}
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      *int64 `json:",omitempty"`
	Mounts          []volume.Point
	Config          inspectedConfig
	NetworkSettings inspectedNetwork
}

type inspectedState struct {
	Status     string
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  string
	FinishedAt string
	Health     *inspectedHealth `json:",omitempty"`
}

type inspectedHealth struct {
	Status        string
	FailingStreak int
	Log           []container.HealthCheck
}

// dockerTime is a time as docker shows it: never is the year 1.
func dockerTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func (a *app) inspectContainer(ctx context.Context, name string, size bool) (any, error) {
	c, err := a.container(ctx, name)
	if err != nil {
		return nil, err
	}
	cfg := &c.Config
	args := cfg.Args()
	v := inspectedContainer{
		ID: c.ID, Created: dockerTime(c.Created), Args: []string{}, Image: cfg.ImageID.String(), Name: "/" + c.Name, RestartCount: c.State.Restarts,
		Driver: "nacre", Platform: strings.Split(cfg.Platform, "/")[0], LogPath: c.LogPath(), Mounts: volume.Open(a.opened).Points(cfg.Mounts),
		State: inspectState(c), HostConfig: inspectHost(cfg), Config: inspectConfig(c),
	}
	if len(args) > 0 {
		v.Path, v.Args = args[0], args[1:]
	}
	v.GraphDriver.Name, v.GraphDriver.Data = "nacre", map[string]string{"UpperDir": c.Upper()}
	v.NetworkSettings = inspectNetwork(c)
	if size {
		own, all := c.Written(), int64(0)
		if img, err := a.opened.Lookup(ctx, cfg.ImageID.String()); err == nil {
			all = img.Size
		}
		all += own
		v.SizeRw, v.SizeRootFs = &own, &all
	}
	return v, nil
}

func inspectState(c *container.Container) inspectedState {
	st := c.State
	v := inspectedState{
		Status: string(st.Status), Running: st.Status.Alive(), Paused: st.Status == container.StatusPaused, Restarting: st.Status == container.StatusRestarting,
		OOMKilled: st.OOMKilled, Dead: st.Status == container.StatusDead, Pid: st.Pid, ExitCode: st.ExitCode, Error: st.Error,
		StartedAt: dockerTime(st.Started), FinishedAt: dockerTime(st.Finished),
	}
	if h := st.Health; h != nil {
		v.Health = &inspectedHealth{h.Status, h.Failing, h.Log}
	}
	return v
}

func inspectConfig(c *container.Container) inspectedConfig {
	cfg := &c.Config
	v := inspectedConfig{
		Hostname: c.Hostname(), Domainname: cfg.Domainname, User: cfg.User, Tty: cfg.TTY, OpenStdin: cfg.OpenStdin, StdinOnce: cfg.StdinOnce,
		AttachStdin: attached(c, "stdin"), AttachStdout: attached(c, "stdout"), AttachStderr: attached(c, "stderr"),
		ExposedPorts: exposedPorts(cfg), Env: cfg.Env, Cmd: cfg.Command, Image: cfg.Image, Volumes: inspectVolumes(cfg), WorkingDir: cfg.WorkingDir,
		Entrypoint: cfg.Entrypoint, Labels: cfg.Labels, StopSignal: cfg.StopSignal, StopTimeout: cfg.StopTimeout,
	}
	if h := cfg.Health; h != nil {
		v.Healthcheck = &inspectedCheck{h.Test, h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, h.Retries}
	}
	return v
}

// inspectVolumes are the image's volumes, and those without a name that -v asked for.
func inspectVolumes(cfg *container.Config) map[string]struct{} {
	all := maps.Clone(cfg.ImageVolumes)
	for _, m := range cfg.Mounts {
		if m.Anonymous && m.Flag == "volume" {
			if all == nil {
				all = map[string]struct{}{}
			}
			all[m.Target] = struct{}{}
		}
	}
	return all
}
