package main

import (
	"nacre/internal/container"
	"nacre/internal/sandbox"
)

// inspectedSecurity is what docker's HostConfig says of confinement.
type inspectedSecurity struct {
	Privileged        bool
	CapAdd, CapDrop   []string
	SecurityOpt       []string
	Devices           []inspectedDevice
	DeviceCgroupRules []string
	DeviceRequests    []inspectedRequest
	GroupAdd          []string
	Sysctls           map[string]string `json:",omitempty"`
	IpcMode           string
	PidMode           string
	UTSMode           string
	CgroupnsMode      string
	Cgroup            string
	UsernsMode        string
	Runtime           string
	MaskedPaths       []string
	ReadonlyPaths     []string
	BlkioWeight       uint16
	MemorySwappiness  *int64
	OomKillDisable    bool
}

type inspectedDevice struct {
	PathOnHost, PathInContainer, CgroupPermissions string
}

type inspectedRequest struct {
	Driver    string
	DeviceIDs []string
}

func inspectSecurity(cfg *container.Config) inspectedSecurity {
	s, r := &cfg.Security, &cfg.Resources
	v := inspectedSecurity{
		Privileged: s.Privileged, CapAdd: s.CapAdd, CapDrop: s.CapDrop, SecurityOpt: s.Options, Devices: []inspectedDevice{}, DeviceCgroupRules: s.DeviceRules,
		GroupAdd: s.Groups, Sysctls: s.Sysctls, IpcMode: s.IPC, PidMode: s.PID, UTSMode: s.UTS, CgroupnsMode: s.Cgroupns, Runtime: s.Runtime, UsernsMode: s.Userns,
		BlkioWeight: r.BlkioWeight, MemorySwappiness: r.Swappiness, OomKillDisable: r.OOMKillDisable,
	}
	v.MaskedPaths, v.ReadonlyPaths = []string{}, []string{}
	if !s.Privileged && !s.OpenPaths {
		v.MaskedPaths, v.ReadonlyPaths = sandbox.MaskedPaths(), sandbox.ReadonlyPaths()
	}
	for _, d := range s.Devices {
		v.Devices = append(v.Devices, inspectedDevice{d.Source, d.Target, d.Permissions})
	}
	if len(s.CDI) > 0 {
		v.DeviceRequests = []inspectedRequest{{"cdi", s.CDI}}
	}
	if v.IpcMode == "" {
		v.IpcMode = container.ModePrivate
	}
	if v.CgroupnsMode == "" {
		v.CgroupnsMode = container.ModePrivate
	}
	if v.Runtime == "" {
		v.Runtime = "nacre"
	}
	return v
}
