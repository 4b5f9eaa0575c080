package main

import (
	"maps"
	"slices"
	"strconv"

	"nacre/internal/container"
	"nacre/internal/volume"
)

// inspectedHost is docker's HostConfig (Engine API, ContainerInspect). Fields of what nacre does not have are there, and empty:
// templates written for docker find them.
type inspectedHost struct {
	Mounts          []volume.HostMount `json:",omitempty"`
	Binds           []string
	Tmpfs           map[string]string `json:",omitempty"`
	ContainerIDFile string
	LogConfig       struct {
		Type   string
		Config map[string]string
	}
	NetworkMode     string
	PortBindings    map[string][]inspectedPort
	PublishAllPorts bool
	RestartPolicy   inspectedRestart
	AutoRemove      bool
	VolumeDriver    string
	VolumesFrom     []string
	ConsoleSize     [2]uint
	Annotations     map[string]string `json:",omitempty"`
	DNS             []string          `json:"Dns"`
	DNSOptions      []string          `json:"DnsOptions"`
	DNSSearch       []string          `json:"DnsSearch"`
	ExtraHosts      []string
	Links           []string
	Isolation       string
	ReadonlyRootfs  bool
	ShmSize         int64
	OomScoreAdj     int
	Init            *bool `json:",omitempty"`
	inspectedResources
	inspectedSecurity
}

// inspectedResources are what docker calls Resources, within the HostConfig.
type inspectedResources struct {
	CgroupParent         string
	CPUShares            uint64 `json:"CpuShares"`
	CPUPeriod            uint64 `json:"CpuPeriod"`
	CPUQuota             int64  `json:"CpuQuota"`
	CPURealtimePeriod    int64  `json:"CpuRealtimePeriod"`
	CPURealtimeRuntime   int64  `json:"CpuRealtimeRuntime"`
	CpusetCpus           string
	CpusetMems           string
	CPUCount             int64 `json:"CpuCount"`
	CPUPercent           int64 `json:"CpuPercent"`
	Memory               int64
	MemoryReservation    int64
	MemorySwap           int64
	KernelMemory         int64
	KernelMemoryTCP      int64
	NanoCpus             int64
	PidsLimit            *int64
	Ulimits              []inspectedUlimit
	BlkioWeightDevice    []inspectedWeight
	BlkioDeviceReadBps   []inspectedRate
	BlkioDeviceWriteBps  []inspectedRate
	BlkioDeviceReadIOps  []inspectedRate
	BlkioDeviceWriteIOps []inspectedRate
	IOMaximumIOps        uint64
	IOMaximumBandwidth   uint64
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

type inspectedWeight struct {
	Path   string
	Weight uint16
}

type inspectedRate struct {
	Path string
	Rate uint64
}

func inspectHost(cfg *container.Config) inspectedHost {
	n := &cfg.Network
	v := inspectedHost{
		Binds: volume.Binds(cfg.Mounts), Mounts: volume.HostMounts(cfg.Mounts), Tmpfs: volume.Tmpfs(cfg.Mounts), VolumesFrom: cfg.VolumesFrom,
		NetworkMode: networkName(*n), PortBindings: map[string][]inspectedPort{}, PublishAllPorts: n.PublishAll,
		DNS: listed(n.DNS), DNSOptions: listed(n.DNSOptions), DNSSearch: listed(n.DNSSearch), ExtraHosts: n.ExtraHosts,
		RestartPolicy: inspectedRestart{cfg.Restart.Name, cfg.Restart.Max}, AutoRemove: cfg.AutoRemove, Annotations: cfg.Annotations,
		ReadonlyRootfs: cfg.ReadOnly, ShmSize: cfg.Resources.ShmSize, OomScoreAdj: cfg.Resources.OOMScoreAdj,
		inspectedResources: inspectResources(cfg), inspectedSecurity: inspectSecurity(cfg),
	}
	for _, p := range n.Ports {
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
	v.LogConfig.Type, v.LogConfig.Config = "json-file", logOptions(cfg.Log)
	if cfg.Log.Driver != "" {
		v.LogConfig.Type = cfg.Log.Driver
	}
	return v
}

// listed is a list that is never null in JSON.
func listed(s []string) []string { return append([]string{}, s...) }

func inspectResources(cfg *container.Config) inspectedResources {
	r := cfg.Resources
	v := inspectedResources{
		CgroupParent: r.CgroupParent, CPUShares: r.CPUShares, CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota, CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems,
		Memory: r.Memory, MemoryReservation: r.MemoryReservation, MemorySwap: r.MemorySwap, Ulimits: []inspectedUlimit{},
		BlkioWeightDevice:  []inspectedWeight{},
		BlkioDeviceReadBps: inspectRates(r.ReadBps), BlkioDeviceWriteBps: inspectRates(r.WriteBps),
		BlkioDeviceReadIOps: inspectRates(r.ReadIOps), BlkioDeviceWriteIOps: inspectRates(r.WriteIOps),
	}
	if r.Memory > 0 && r.MemorySwap == 0 {
		v.MemorySwap = 2 * r.Memory // what it comes to
	}
	// --cpus is kept as the quota of a period that nobody else names.
	if r.CPUPeriod == cfsPeriod && r.CPUQuota > 0 {
		v.NanoCpus, v.CPUPeriod, v.CPUQuota = r.CPUQuota*(1e9/cfsPeriod), 0, 0
	}
	if r.PidsLimit != 0 {
		v.PidsLimit = &r.PidsLimit
	}
	for _, name := range slices.Sorted(maps.Keys(r.Ulimits)) {
		u := r.Ulimits[name]
		v.Ulimits = append(v.Ulimits, inspectedUlimit{name, int64(u.Hard), int64(u.Soft)})
	}
	for _, w := range r.WeightDevices {
		v.BlkioWeightDevice = append(v.BlkioWeightDevice, inspectedWeight{w.Path, uint16(w.Rate)})
	}
	return v
}

func inspectRates(list []container.DeviceRate) []inspectedRate {
	out := []inspectedRate{}
	for _, r := range list {
		out = append(out, inspectedRate{r.Path, r.Rate})
	}
	return out
}
