package main

import (
	"context"
	"fmt"
	"strconv"
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

// inspectedHost is docker's HostConfig, as far as there is something to say.
type inspectedHost struct {
	Mounts          []volume.HostMount `json:",omitempty"`
	Binds           []string
	Tmpfs           map[string]string `json:",omitempty"`
	ContainerIDFile string
	LogConfig       struct {
		Type   string
		Config map[string]string
	}
	NetworkMode       string
	PortBindings      map[string][]inspectedPort
	RestartPolicy     inspectedRestart
	AutoRemove        bool
	Annotations       map[string]string `json:",omitempty"`
	ExtraHosts        []string
	ReadonlyRootfs    bool
	ShmSize           int64
	OomScoreAdj       int
	Init              *bool `json:",omitempty"`
	CgroupParent      string
	CPUShares         uint64 `json:"CpuShares"`
	CPUPeriod         uint64 `json:"CpuPeriod"`
	CPUQuota          int64  `json:"CpuQuota"`
	CpusetCpus        string
	CpusetMems        string
	Memory            int64
	MemoryReservation int64
	MemorySwap        int64
	NanoCpus          int64
	PidsLimit         *int64
	Ulimits           []inspectedUlimit
	inspectedSecurity
}

type inspectedPort struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

type inspectedRestart struct {
	Name              string
	MaximumRetryCount int
}

type inspectedUlimit struct {
	Name       string
	Hard, Soft int64
}

type inspectedNetwork struct {
	SandboxKey string
	Ports      map[string][]inspectedPort
	Networks   map[string]inspectedEndpoint
	IPAddress  string
	Gateway    string
	MacAddress string
}

type inspectedEndpoint struct {
	IPAddress, Gateway, MacAddress string
	IPPrefixLen                    int
	Aliases                        []string
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

// inspectNetwork is what the container got, while it runs.
func inspectNetwork(c *container.Container) inspectedNetwork {
	i := c.State.Network
	n := inspectedNetwork{IPAddress: i.IP, Gateway: i.Gateway, MacAddress: i.MAC, Ports: map[string][]inspectedPort{}}
	n.Networks = map[string]inspectedEndpoint{networkName(c): {
		IPAddress: i.IP, Gateway: i.Gateway, MacAddress: i.MAC, IPPrefixLen: i.Bits,
	}}
	for e := range exposedPorts(&c.Config) {
		n.Ports[e] = nil
	}
	for _, p := range i.Ports {
		n.Ports[p.Key()] = append(n.Ports[p.Key()], inspectedPort{HostIP: p.HostIP, HostPort: strconv.Itoa(int(p.HostPort))})
	}
	if c.State.Pid != 0 && i.Mode != "" {
		n.SandboxKey = fmt.Sprintf("/proc/%d/ns/net", c.State.Pid)
	}
	return n
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

func inspectHost(cfg *container.Config) inspectedHost {
	r := cfg.Resources
	v := inspectedHost{
		Binds: volume.Binds(cfg.Mounts), Mounts: volume.HostMounts(cfg.Mounts), Tmpfs: volume.Tmpfs(cfg.Mounts), NetworkMode: cfg.Network.Mode, PortBindings: map[string][]inspectedPort{},
		RestartPolicy: inspectedRestart{cfg.Restart.Name, cfg.Restart.Max}, AutoRemove: cfg.AutoRemove, Annotations: cfg.Annotations,
		ExtraHosts: cfg.Network.ExtraHosts, ReadonlyRootfs: cfg.ReadOnly, ShmSize: r.ShmSize, OomScoreAdj: r.OOMScoreAdj, CgroupParent: r.CgroupParent,
		CPUShares: r.CPUShares, CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota, CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems,
		Memory: r.Memory, MemoryReservation: r.MemoryReservation, MemorySwap: r.MemorySwap, Ulimits: []inspectedUlimit{}, inspectedSecurity: inspectSecurity(cfg),
	}
	for _, p := range cfg.Network.Ports {
		host := ""
		if p.HostPort != 0 {
			host = strconv.Itoa(int(p.HostPort))
		}
		v.PortBindings[p.Key()] = append(v.PortBindings[p.Key()], inspectedPort{p.HostIP, host})
	}
	if v.RestartPolicy.Name == "" {
		v.RestartPolicy.Name = container.RestartNo
	}
	if v.ShmSize == 0 {
		v.ShmSize = 64 << 20
	}
	if cfg.Init {
		v.Init = &cfg.Init
	}
	if r.PidsLimit != 0 {
		v.PidsLimit = &r.PidsLimit
	}
	for name, u := range r.Ulimits {
		v.Ulimits = append(v.Ulimits, inspectedUlimit{name, int64(u.Hard), int64(u.Soft)})
	}
	v.LogConfig.Type, v.LogConfig.Config = "json-file", logOptions(cfg.Log)
	if cfg.Log.Driver != "" {
		v.LogConfig.Type = cfg.Log.Driver
	}
	return v
}

func inspectConfig(c *container.Container) inspectedConfig {
	cfg := &c.Config
	v := inspectedConfig{
		Hostname: c.Hostname(), Domainname: cfg.Domainname, User: cfg.User, Tty: cfg.TTY, OpenStdin: cfg.OpenStdin, StdinOnce: cfg.StdinOnce,
		AttachStdin: attached(c, "stdin"), AttachStdout: attached(c, "stdout"), AttachStderr: attached(c, "stderr"),
		ExposedPorts: exposedPorts(cfg), Env: cfg.Env, Cmd: cfg.Command, Image: cfg.Image, Volumes: cfg.ImageVolumes, WorkingDir: cfg.WorkingDir,
		Entrypoint: cfg.Entrypoint, Labels: cfg.Labels, StopSignal: cfg.StopSignal,
	}
	if h := cfg.Health; h != nil {
		v.Healthcheck = &inspectedCheck{h.Test, h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, h.Retries}
	}
	return v
}
